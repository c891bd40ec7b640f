"""Personas on chat templates with and without a system role."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pluralism_eval.communities import asking
from pluralism_eval.communities.engine import CANARIES, Job, Sampling
from pluralism_eval.communities.prompted import PromptedEngine
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.decoding import decode

TURNS = "{% for m in messages %}{{ m.role + ' ' + m.content + ' ' }}{% endfor %}"
TEMPLATES = {
    "a system role": TURNS,
    "none": "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TURNS,
    "alternation": (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
        "{% endif %}{{ m.role + ' ' + m.content + ' ' }}{% endfor %}"
    ),
    "silently dropped": "{% for m in messages if m.role != 'system' %}{{ m.role + ' ' + m.content + ' ' }}{% endfor %}",
    "an undefined name": "{% if messages[0].role == 'system' %}{{ nothing.at.all }}{% endif %}" + TURNS,
}  # fmt: skip
PERSONA = "a nurse"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    words = dict.fromkeys(["<unk>", "system", "user", "a", "nurse", *" ".join(CANARIES).split()])
    inner = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                    initializer_range=0.5, eos_token_id=None)
    ).eval()  # fmt: skip
    monkeypatch.setattr("pluralism_eval.communities.local._load", lambda *_: (model, tokenizer))
    tokenizer.name_or_path = "org/base"
    return PromptedEngine("org/base", {"nurses": PERSONA})


def tokens(engine: PromptedEngine, text: str, persona: str = "") -> list[int]:
    tokenizer = engine._local.tokenizer
    return engine._local.tokens(text, asking.has_template(tokenizer), persona)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_persona_reaches_the_model_under_any_template(kind: str, engine: Any) -> None:
    engine._local.tokenizer.chat_template = TEMPLATES[kind]
    shown = engine._local.tokenizer.decode(tokens(engine, "my question", PERSONA))
    assert "a nurse" in shown
    assert ("system" in shown) == (kind == "a system role")
    assert tokens(engine, "my question") != tokens(engine, "my question", PERSONA)
    assert engine.prove(["nurses"])["nurses"]["max_abs_difference"] > 0
    ((_, out),) = engine.generate([Job("k", "nurses", "my question", 1, True)], Sampling(3))
    assert (out.n_tokens, out.stopped) == (3, False), "a base without an end of its own"


@pytest.mark.parametrize(
    ("template", "reason"), [("{{ raise_exception('no') }}", "TemplateError: no"), (" ", "nothing")]
)
def test_a_template_that_takes_no_user_turn_is_one_clear_error(
    template: str, reason: str, engine: Any
) -> None:
    engine._local.tokenizer.chat_template = template
    with pytest.raises(PluralismError, match=f"of 'org/base' cannot render one user turn .*{reason}") as caught:  # fmt: skip
        engine.prove(["nurses"])
    assert "\n" not in str(caught.value)


def test_prompts_are_ordered_by_tokens_with_the_persona(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short question of a long persona is a long prompt."""
    engine._personas["others"] = " ".join(["a nurse"] * 9)
    seen: list[list[int]] = []

    def watched(model: Any, prompts: Any, *more: Any, **how: Any) -> Any:
        seen.append([len(row) for row in prompts])
        return decode(model, prompts, *more, **how)

    monkeypatch.setattr("pluralism_eval.communities.local.decode", watched)
    jobs = [Job("1", "nurses", "my own question", 1), Job("2", "others", "my", 2), Job("3", "nurses", "my", 3)]  # fmt: skip
    together = {job.key: out.text for job, out in engine.generate(jobs, Sampling(4))}
    assert seen == [sorted(seen[0], reverse=True)]
    assert seen[0][0] == len(tokens(engine, "my", engine._personas["others"]))
    alone = {job.key: out.text for one in jobs for job, out in engine.generate([one], Sampling(4))}
    assert together == alone
