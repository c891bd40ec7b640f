"""An LLM by one line of text, as judges are named: ``NAME`` or ``NAME:key=value;key=value``.

NAME is an lm-eval model name or ``embedded``, the rest its arguments; ``prompts=FILE`` among them
overrides the wording (:mod:`pluralism_eval.prompts`).
"""

from __future__ import annotations

from dataclasses import replace

from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.load import load_llm
from pluralism_eval.prompts import Prompts
from pluralism_eval.settings import Settings, parse


def named_settings(spec: str, setting: str, prefix: str = "") -> Settings:
    """The LLM that ``spec`` describes. No model is loaded.

    Args:
        setting: the setting that holds ``spec``, for errors.
        prefix: what comes before NAME there (``llm:``).

    Raises:
        PluralismError: unknown model, one of our methods, a key, or arguments that are no ``key=value``.
    """
    from pluralism_eval.plugin import METHODS, register_models

    register_models()
    from lm_eval.api.registry import model_registry

    llm, _, rest = spec.removeprefix(prefix).partition(":")
    allowed = {n for n in model_registry.keys() if n.removeprefix("pluralism_") not in METHODS}  # noqa: SIM118
    if llm not in {"embedded", "openai", *allowed}:
        raise PluralismError(
            f"{setting}={spec!r}: {llm!r} is no LLM. Allowed: {prefix}NAME or {prefix}NAME:key=value;key=value "
            f"with one of embedded, openai, {', '.join(sorted(allowed))}"
        )
    try:
        settings = parse("vanilla", {"llm": llm, "llm_args": rest or None})
        args = dict(settings.llm_args)
        prompts = args.pop("prompts", None)
        if prompts is None:
            return settings
        Prompts(str(prompts))
    except PluralismError as error:
        raise PluralismError(f"{setting}={spec!r}: {error}") from error
    return replace(settings, llm_args=args, prompts=str(prompts))


def check_client(settings: Settings, given: str, prefix: str = "") -> None:
    """Finds out what can be known without loading weights.

    The client of an API is built, which costs nothing and shows missing packages and wrong arguments;
    of a transformers model the configuration is read, which shows a wrong path.

    Args:
        given: ``setting=spec``, for errors.

    Raises:
        PluralismError: the client cannot be built, or there is no such model.
    """
    from lm_eval.api.registry import get_model
    from lm_eval.models.api_models import TemplateAPI

    try:
        if settings.llm == "hf" and "gguf_file" not in settings.llm_args:
            _read_configuration(settings)
        elif settings.llm == "openai" or (
            settings.llm != "embedded" and issubclass(get_model(settings.llm), TemplateAPI)
        ):
            load_llm(settings)
    except Exception as error:  # whatever a client may raise, it means the same here
        what = "model cannot be found" if settings.llm == "hf" else "client cannot be built"
        raise PluralismError(
            f"{given}: the {what} ({type(error).__name__}: {error}). "
            f"Allowed after {prefix}{settings.llm}: its own arguments, key=value;key=value"
        ) from error


def _read_configuration(settings: Settings) -> None:
    from transformers import AutoConfig

    args = settings.llm_args
    known = {name: args[name] for name in ("revision", "subfolder", "token") if name in args}
    trusted = bool(args.get("trust_remote_code", False))
    AutoConfig.from_pretrained(str(args["pretrained"]), trust_remote_code=trusted, **known)


def takes_turns(llm: HarnessLLM) -> bool:
    """True for chat APIs, which accept nothing but chat turns; other models get plain text."""
    from lm_eval.models.api_models import JsonChatStr

    try:
        return isinstance(llm.render([{"role": "user", "content": ""}]), JsonChatStr)
    except NotImplementedError:
        return False
