"""An LLM as far as a plan needs it: how it counts, templates and scores. Without loading it, or from a loaded one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lm_eval.models.api_models import JsonChatStr

from pluralism_eval.api.settings import OPENAI, ApiSettings, parse_api
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.hf import HFLLM
from pluralism_eval.planning.counting import Counter, counter_of
from pluralism_eval.planning.models import Card, card_of
from pluralism_eval.settings import Settings

Kind = Literal["transformers", "engine", "api", "openai"]
"""lm-eval's ``hf`` and the embedded model; an engine such as vLLM; lm-eval's API clients; our own."""
_ENGINES = ("vllm", "vllm-vlm", "sglang", "nemo_lm", "gguf", "ggml")
_API_WINDOW = 2047
"""lm-eval's API clients, unless ``max_length`` is given."""
_TURN = "<|{role}|>\n{content}\n"


@dataclass(frozen=True)
class Described:
    """One LLM."""

    card: Card
    kind: Kind
    count: Callable[[str], int]
    how: Callable[[], str]
    """How tokens are counted, in words."""
    window: int
    render: Callable[[Sequence[Mapping[str, str]], bool], Any]
    """Chat turns, and whether the assistant's turn is opened → prompt."""
    scores: bool = True
    """It gives log-probabilities."""
    encode_pair: Callable[[str, str], Any] | None = None
    """lm-eval's, where spellings of an option can be told apart."""
    api: ApiSettings | None = None
    identity: tuple[Any, ...] = ()
    """LLMs with equal identities use equally many calls and tokens."""
    notes: tuple[str, ...] = field(default=())

    @property
    def local(self) -> bool:
        """It needs a device of ours."""
        return self.kind in ("transformers", "engine")


def describe(settings: Settings, parameters: float | None = None) -> Described:
    """The LLM that ``settings`` name; nothing is loaded, downloaded or asked.

    Raises:
        PluralismError: an unknown lm-eval model, or one of our methods as its own LLM.
    """
    kind, args = _kind(settings.llm), dict(settings.llm_args)
    name = str(
        "embedded" if settings.llm == "embedded"
        else args.get("pretrained") or args.get("model") or settings.llm
    )  # fmt: skip
    card = card_of(name, args, parameters)
    if kind == "openai":
        return _openai(card, parse_api(args))
    server = kind == "api"
    own = args.get("tokenizer") or (None if server else name)
    counter = counter_of(str(own) if own else None, args.get("add_bos_token"))
    window = int(args.get("max_length") or _API_WINDOW + 1) - 1 if server else card.window
    notes = [] if server or card.window_known else [f"{name}: a context of {card.window:,} tokens"]
    return Described(
        card=card,
        kind=kind,
        count=counter,
        how=lambda: counter.how,
        window=window,
        render=_template(counter, server),
        scores="chat" not in settings.llm and "anthropic" not in settings.llm,
        encode_pair=None if kind == "transformers" else _pair_encoder(counter),
        identity=(kind, own if counter.tokenizer else None, window, settings.llm),
        notes=tuple(notes),
    )


def describe_loaded(llm: HarnessLLM, settings: Settings, parameters: float | None) -> Described:
    """The LLM that a pilot holds: it counts and templates for itself."""
    known = describe(settings, parameters)
    size = parameters or _reported(llm)
    card = known.card if size is None else card_of(known.card.name, settings.llm_args, size)
    return Described(
        card=card,
        kind="transformers" if isinstance(llm, HFLLM) else known.kind,
        count=llm.count_tokens,
        how=lambda: "the LLM itself",
        window=llm.max_length,
        render=lambda turns, opened: llm.render([dict(turn) for turn in turns], opened),
        scores=True,
        encode_pair=getattr(llm.inner, "_encode_pair", None),
        api=known.api,
        identity=(id(llm),),
        notes=known.notes,
    )


def _reported(llm: HarnessLLM) -> float | None:
    """Parameters by lm-eval's own report."""
    asked = getattr(llm.inner, "get_model_info", None)
    found = asked().get("model_num_parameters") if asked else None
    return float(found) if found and found > 0 else None


def _kind(llm: str) -> Kind:
    from pluralism_eval.plugin import METHODS, register_models

    register_models()
    from lm_eval.api.registry import get_model, model_registry

    if llm == "openai":
        return "openai"
    if llm == "embedded":
        return "transformers"
    if llm.removeprefix("pluralism_") in METHODS or llm not in model_registry:
        names = (n for n in model_registry.keys() if n.removeprefix("pluralism_") not in METHODS)  # noqa: SIM118
        raise PluralismError(f"llm={llm!r} is no LLM. Allowed: embedded, openai, {', '.join(sorted(names))}")  # fmt: skip
    if llm in _ENGINES:
        return "engine"
    from lm_eval.models.huggingface import HFLM

    try:
        own = get_model(llm)
    except ImportError:  # its client is not installed: it is no transformers model
        return "api"
    return "transformers" if isinstance(own, type) and issubclass(own, HFLM) else "api"


def _openai(card: Card, api: ApiSettings) -> Described:
    counter = counter_of(api.tokenizer or None, False)
    echo = api.api == "completions" and api.base_url != OPENAI
    given = "echoes log-probabilities" if echo else f"gives {api.top_logprobs} top_logprobs"
    return Described(
        card=card,
        kind="openai",
        count=counter,
        how=lambda: counter.how,
        window=api.max_length,
        render=_template(counter, api.api == "chat"),
        api=api,
        identity=("openai", repr(api)),
        notes=(
            f"{api.model}: the server {given} (assumed; `pluralism-eval doctor` asks it); replies that are stored "
            "here cost nothing and are not counted",
        ),
    )


def _template(counter: Counter, turns_as_json: bool) -> Callable[..., Any]:
    """The tokenizer's chat template, JSON for chat servers, else a plain one."""
    own = getattr(counter.tokenizer, "chat_template", None)

    def render(turns: Sequence[Mapping[str, str]], opened: bool) -> Any:
        if turns_as_json:
            return JsonChatStr(json.dumps(list(turns), ensure_ascii=False))
        if own:
            assert counter.tokenizer is not None
            text: str = counter.tokenizer.apply_chat_template(
                list(turns), tokenize=False, add_generation_prompt=opened,
                continue_final_message=not opened,
            )  # fmt: skip
            return text
        return "".join(_TURN.format(**turn) for turn in turns) + "<|assistant|>\n" * opened

    return render


def _pair_encoder(counter: Counter) -> Callable[[str, str], Any] | None:
    """Which tokens a continuation has after a context, of whose end alone they depend."""
    if counter.tokenizer is None:
        return None

    def encode(context: str, continuation: str) -> tuple[list[int], list[int]]:
        end = context[-40:]
        kept = end.rstrip()
        whole, start = counter.ids(end + continuation), counter.ids(kept)
        return start, whole[len(start) :]

    return encode
