"""What ``--model_args`` may say, checked as a whole before any model is loaded."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pluralism_eval import chat_date
from pluralism_eval.api.settings import parse_api
from pluralism_eval.cloze import NORMALISATIONS
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.json_files import loads
from pluralism_eval.presets import get_preset
from pluralism_eval.schema import MODES
from pluralism_eval.secrets import secrets_in
from pluralism_eval.yaml_files import is_file, read_yaml, yaml_value

log = logging.getLogger(__name__)
READOUTS = (
    "options", "echo", "top_logprobs", "cloze", "sampled", "verbalised", "generated", "harness"
)  # fmt: skip

SELECTIONS = ("generated", "likelihood")


@dataclass(frozen=True)
class Settings:
    """Settings of one method. Defaults are the paper's, on the embedded model."""

    llm: str = "embedded"
    """An lm-eval model name (``hf``, ``vllm``, ``local-completions``, ...), ``embedded``, or ``openai``:
    any OpenAI-compatible server, see :class:`pluralism_eval.api.settings.ApiSettings`."""
    llm_args: Mapping[str, Any] = field(default_factory=dict)
    """That model's own arguments: a mapping, JSON, or ``key=value;key=value``."""
    communities: str | None = None
    """Named pool, YAML file or community, joined by ``+``; default ``embedded`` for the embedded
    LLM, else ``perspective``. See :func:`pluralism_eval.communities.catalogue.load_pool`."""
    mode: str = "auto"
    """``auto`` takes the task's; foreign tasks: distributional for options, Overton for text."""
    attribute: str | None = None
    """Whom to steer to on tasks that are not ours (``mode=steerable``)."""
    preset: str = "paper"
    weights: Any = None
    """Community priors: list in pool order, or a mapping from name; must sum to 1."""
    prompts: str | None = None
    """YAML file that overrides wording: ``{method: {name: template}}``."""
    messages: str | None = None
    """Folder of the message store, or of the authors' exported message files."""
    message_max_tokens: int | None = None
    """New tokens a message; default the preset's."""
    message_temperature: float | None = None
    """Of message sampling; 0 is greedy. Default: the community's own (its pool's YAML), else 1."""
    message_top_p: float | None = None
    """Nucleus of message sampling. Default: the community's own, else the preset's."""
    seed: int = 1234
    """Seeds message sampling and fallbacks."""
    readout: str = ""
    """``cloze``: the probability of each option's text (default for ``llm=embedded``). ``options`` (default for
    other LLMs): letter probabilities over the vocabulary; of a server (``llm=openai``) the first that
    it gives of ``echo`` (log-probabilities of the prompt's end), ``top_logprobs`` (of the first token)
    and ``sampled`` (shares of ``readout_samples`` replies at temperature 1). ``verbalised``:
    percentages that it states; ``generated``: its words. ``harness``: lm-eval's own (vanilla)."""
    cloze_normalisation: str = "sum"
    """Of ``readout=cloze``: see :func:`pluralism_eval.cloze.read`."""
    chat: bool | None = None
    """Puts the queries of our tasks into the LLM's chat template, also without ``--apply_chat_template``. Default:
    true for ``llm=embedded`` (but not with ``readout=harness``), else as that flag says."""
    selection: str = ""
    """How ``modular_pluralism`` picks the comment that fits an attribute. ``generated`` (the paper's; default): the LLM
    names its number. ``likelihood`` (default with ``readout=cloze``, which it needs): the comment that the attribute
    makes likelier, see :mod:`pluralism_eval.selecting`."""
    readout_samples: int = 20
    """Replies a prompt of ``readout=sampled``."""
    orders: int | None = None
    """Option orders averaged; default 2 on MoralChoice (``preset=paper``), else 1."""
    templates: int = 1
    """Wordings of the method's templates averaged."""
    message_samples: int = 1
    """Messages that each community writes about a query; the answers are averaged."""
    overlong: str = "error"
    """A query whose prompt does not fit the LLM even without passages: ``error``, before anything is
    generated, or ``skip``: it counts as not read, and is counted."""
    chat_date: str = chat_date.DEFAULT
    """The date (YYYY-MM-DD) that chat templates see which ask for today's, so that a run of another day sends the
    same prompts."""
    transcript: str | None = None
    """JSONL file of everything sent and said; default beside lm-eval's ``--output_path``."""
    batch_tokens: int | None = None
    """Prompt tokens of a forward pass when options are scored; default: 1,024 on CPUs, 8,192 on GPUs."""
    listening: Any = "auto"
    """Whether methods with communities measure how far the LLM moves with its messages (:mod:`pluralism_eval.listening`):
    ``true``, ``false``, or ``auto``: where the LLM is in this process, not at a server, which it would cost some
    hundred requests. Once per LLM, readout and template; it changes no answer."""
    message_batch: int | None = None
    """Messages written at once; default: as many as the device's memory holds, at most 64 on CPUs and 256 on GPUs."""


def parse(method: str, given: Mapping[str, Any]) -> Settings:
    """Settings from ``--model_args`` and, under ``config=``, a YAML file (arguments win).

    Raises:
        PluralismError: one error with *all* problems.
    """
    problems: list[str] = []
    merged = dict(given)
    if "config" in merged:
        merged = read_config(str(merged.pop("config")), problems) | merged
    args = _llm_args(merged.pop("llm_args", None), problems)
    llm = merged.get("llm", "hf" if "pretrained" in merged else "embedded")
    known = {f.name for f in fields(Settings)}
    extra = {name: merged.pop(name) for name in list(merged) if name not in known}
    if extra and "pretrained" in extra and llm != "hf":
        problems.append(
            f"pretrained={extra.pop('pretrained')!r} is short for llm=hf and contradicts llm={llm!r}; "
            "put it into llm_args or leave llm out"
        )
    if llm == "hf":
        for name in set(extra) & _hf_parameters():
            if name in args and args[name] != extra[name]:
                problems.append(
                    f"{name} is given twice: {extra[name]!r} and llm_args {args[name]!r}; keep one"
                )
            args[name] = extra.pop(name)
        if "pretrained" not in args:
            problems.append("llm=hf needs pretrained=<model>")
    if llm == "openai":
        try:
            parse_api(args)
        except PluralismError as error:
            problems.append(str(error))
    else:
        problems += [
            f"llm_args.{name}: keys do not belong in arguments, which results and shell histories keep; put it into "
            "the environment (HF_TOKEN, OPENAI_API_KEY, ...)"
            for name in secrets_in(args)
        ]
    if llm == "embedded" and "pretrained" in args:
        problems.append(
            "llm=embedded has its own weights: drop llm_args' pretrained, or set llm=hf"
        )
    trust = extra.pop("trust_remote_code", None)  # lm-eval's flag adds it to model_args
    if trust is not None:
        args["trust_remote_code"] = trust
    problems += [_unknown(name, value, known) for name, value in extra.items()]
    merged |= {"llm": llm, "llm_args": args}
    if "chat_date" in merged:
        try:
            merged["chat_date"] = chat_date.checked(merged["chat_date"])
        except PluralismError as error:
            problems.append(str(error))
    settings = _with_defaults(Settings(**merged))
    problems += _contradictions(method, settings)
    raise_all(f"model_args of {method}", problems)
    return settings


def _with_defaults(s: Settings) -> Settings:
    """What the embedded LLM needs in order to hear messages at all, where nothing else was said.

    ``preset=reference`` asks in plain text and reads letters, as the authors did.
    """
    embedded = s.llm == "embedded" and not str(s.preset).startswith("reference")
    readout = s.readout or ("cloze" if embedded else "options")
    told = {"true": True, "false": False}.get(str(s.listening).lower(), s.listening)
    chat = embedded and readout != "harness" if s.chat is None else s.chat
    selection = s.selection or ("likelihood" if readout == "cloze" else "generated")
    return replace(s, readout=readout, chat=chat, listening=told, selection=selection)


def _unknown(name: str, value: Any, known: set[str]) -> str:
    if name in ("data", "nli"):
        return f"{name}={value!r} concerns the tasks: pass it with --metadata {name}={value}"
    if name == "device":
        return "device is lm-eval's own flag: pass --device"
    return f"unknown setting {name}={value!r}. Known: {', '.join(sorted(known | {'config', 'pretrained'}))}"


def _contradictions(method: str, s: Settings) -> list[str]:
    found = []
    if s.mode not in ("auto", *MODES):
        found.append(f"mode={s.mode!r} is unknown. Allowed: auto, {', '.join(MODES)}")
    try:
        get_preset(str(s.preset))
    except PluralismError as error:
        found.append(str(error))
    if s.readout not in READOUTS:
        found.append(f"readout={s.readout!r} is unknown. Allowed: {', '.join(READOUTS)}")
    elif s.readout == "harness" and method != "vanilla":
        found.append(
            f"readout=harness is vanilla's: {method} rewrites prompts and reads option letters; drop it"
        )
    elif s.readout == "harness" and (s.orders or 1) > 1:
        found.append(f"orders={s.orders} rewrites prompts, readout=harness does not; drop one")
    if s.cloze_normalisation not in NORMALISATIONS:
        found.append(
            f"cloze_normalisation={s.cloze_normalisation!r} is unknown. Allowed: {', '.join(NORMALISATIONS)}"
        )
    if s.cloze_normalisation == "pmi" and method == "vanilla":
        log.warning(
            "cloze_normalisation=pmi: vanilla adds nothing to its question, so its answers are uniform"
        )
    if not isinstance(s.chat, bool):
        found.append(f"chat={s.chat!r} is unknown. Allowed: true, false")
    elif s.chat and s.readout == "harness":
        found.append(
            "chat=true rewrites prompts, readout=harness does not; pass --apply_chat_template"
        )
    if s.listening != "auto" and not isinstance(s.listening, bool):
        found.append(f"listening={s.listening!r} is unknown. Allowed: auto, true, false")
    if s.selection not in SELECTIONS:
        found.append(f"selection={s.selection!r} is unknown. Allowed: {', '.join(SELECTIONS)}")
    elif s.selection == "likelihood" and s.readout != "cloze":
        found.append(
            f"selection=likelihood reads the likelihood of texts, readout={s.readout} does not: set readout=cloze, "
            "or selection=generated"
        )
    if s.overlong not in ("error", "skip"):
        found.append(f"overlong={s.overlong!r} is unknown. Allowed: error, skip")
    if not isinstance(s.seed, int) or isinstance(s.seed, bool):
        found.append(f"seed={s.seed!r} must be an integer")
    whole = (
        "message_max_tokens", "batch_tokens", "message_batch", "readout_samples", "orders", "templates",
        "message_samples",
    )  # fmt: skip
    for name in whole:
        value = getattr(s, name)
        if value is not None and (
            not isinstance(value, int) or isinstance(value, bool) or value < 1
        ):
            found.append(f"{name}={value!r} must be a positive integer")
    temperature = s.message_temperature
    if temperature is not None and not (_is_number(temperature) and 0 <= temperature <= 100):
        found.append(f"message_temperature={temperature!r} must be a number from 0 (greedy) to 100")
    if s.message_top_p is not None and not (
        _is_number(s.message_top_p) and 0 < s.message_top_p <= 1
    ):
        found.append(f"message_top_p={s.message_top_p!r} must be a number above 0, at most 1")
    if s.prompts is not None and not is_file(str(s.prompts)):
        found.append(f"prompts={s.prompts!r} is not a file")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_config(path: str, problems: list[str]) -> dict[str, Any]:
    """The settings in a YAML file; what is wrong with it is added to ``problems``."""
    try:
        loaded = read_yaml(Path(path), "config")
    except PluralismError as error:
        problems.append(str(error))
        return {}
    if not isinstance(loaded, dict):
        problems.append(
            f"config={path!r} must be a mapping of settings, got {type(loaded).__name__}"
        )
        return {}
    return loaded


def _llm_args(value: Any, problems: list[str]) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    text = str(value).strip()
    try:
        if text.startswith("{"):
            return dict(loads(text))
        return {
            key.strip(): yaml_value(item)
            for key, item in (pair.split("=", 1) for pair in text.split(";"))
        }
    except (ValueError, TypeError, RecursionError):
        problems.append(
            f"llm_args={value!r} is neither a mapping, nor JSON, nor key=value;key=value"
        )
        return {}


def _hf_parameters() -> set[str]:
    from lm_eval.models.huggingface import HFLM

    return set(inspect.signature(HFLM.__init__).parameters) - {
        "self",
        "kwargs",
        "batch_size",
        "device",
    } | {
        "attn_implementation",
        "load_in_4bit",
        "load_in_8bit",
    }


def read_weights(value: Any, names: list[str]) -> list[float]:
    """Community priors in pool order; uniform for None. [k], each ≥ 0, sum 1 (±1e-6).

    Raises:
        PluralismError: wrong length, unknown name, negative, or a sum other than 1.
    """
    if value is None:
        return [1.0 / len(names)] * len(names)
    if isinstance(value, str):
        value = yaml_value(value) if value.strip()[:1] in ("[", "{") else value.split(";")
    if isinstance(value, Mapping):
        raise_all(
            "weights",
            [
                f"unknown community {n!r}; the pool has {', '.join(names)}"
                for n in value
                if n not in names
            ],
        )
        value = [value.get(name, 0.0) for name in names]
    try:
        weights = [float(v) for v in value]
    except (TypeError, ValueError, OverflowError) as error:
        raise PluralismError(
            f"weights={value!r} must be numbers: a list in pool order or name: number"
        ) from error
    if len(weights) != len(names):
        raise PluralismError(
            f"weights has {len(weights)} numbers, the pool has {len(names)} communities: {', '.join(names)}"
        )
    # "not <=": a NaN compares as false
    if not all(w >= 0 for w in weights) or not abs(sum(weights) - 1) <= 1e-6:
        raise PluralismError(
            f"weights={weights} must be ≥ 0 and sum to 1; they sum to {sum(weights):g}"
        )
    return weights
