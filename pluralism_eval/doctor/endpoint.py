"""Servers: reached, with a key, serving the model, and giving what the readout needs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from urllib3.exceptions import HTTPError

from pluralism_eval.api.replies import read_reply
from pluralism_eval.doctor.findings import Finding, one_line
from pluralism_eval.doctor.run import Run
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm import openai_scores

_TIMEOUT = (3.05, 15.0)  # seconds to connect, to answer
_LONGEST = 30.0
"""Seconds in which a reply must be whole."""
_MOST = 2**23
"""Bytes of a reply."""
_KEYS = {
    "azure-openai-chat-completions": "AZURE_OPENAI_API_KEY",
    "anthropic-completions": "ANTHROPIC_API_KEY",
    "anthropic-chat": "ANTHROPIC_API_KEY",
    "anthropic-chat-completions": "ANTHROPIC_API_KEY",
    "textsynth": "TEXTSYNTH_API_SECRET_KEY",
}
_DEFAULT_URL = {
    "openai-completions": "https://api.openai.com/v1/completions",
    "openai-chat-completions": "https://api.openai.com/v1/chat/completions",
}
_ASKED_LIKE_OPENAI = ("local-completions", "local-chat-completions", *_DEFAULT_URL)
_PROMPT = "Question: 1 or 2?\nAnswer:"
_PATIENCE = {"max_retries": 0, "timeout": 15}  # of llm=openai; a run has more


@dataclass(frozen=True)
class Reply:
    """What a server said: status 0 and the reason where it said nothing."""

    status: int
    body: Any
    reason: str = ""


def ask(
    url: str, variable: str, body: Mapping[str, Any] | None = None, header: Any = None
) -> Reply:
    """One request (POST where there is a body), once; the key comes from ``variable``."""
    import requests

    key = os.environ.get(variable)
    headers = dict(header or ({"Authorization": f"Bearer {key}"} if key else {}))
    method = "GET" if body is None else "POST"
    try:
        with requests.request(
            method, url, headers=headers, json=body, timeout=_TIMEOUT, stream=True, allow_redirects=False
        ) as response:  # fmt: skip
            content = _read(response)
    except (requests.RequestException, OSError, HTTPError) as error:
        return Reply(0, None, type(error).__name__)
    if content is None:
        return Reply(0, None, f"more than {_MOST:,} bytes or {_LONGEST:g} seconds")
    if response.is_redirect:
        said = f"redirects to {response.headers['location'][:200]}; that is not followed"
        return Reply(response.status_code, None, said)
    text = content.decode(errors="replace")[:200]
    try:
        return Reply(response.status_code, json.loads(content), text)
    except (ValueError, RecursionError):
        return Reply(response.status_code, None, text)


def _read(response: Any) -> bytes | None:
    """The body, unpacked; None if it is too large or takes too long."""
    until, found = time.monotonic() + _LONGEST, b""
    while part := response.raw.read1(2**16, decode_content=True):
        found += part
        if len(found) > _MOST or time.monotonic() > until:
            return None
    return found


def served_names(url: str, variable: str, header: Any = None) -> tuple[list[str] | None, Reply]:
    """(model names of ``url``/models; None if it gives no list, what it said)."""
    reply = ask(f"{url.rstrip('/')}/models", variable, header=header)
    try:
        return [str(model["id"]) for model in reply.body["data"]], reply
    except (TypeError, KeyError):
        return None, reply


def unreachable(check: str, url: str, variable: str, reply: Reply) -> list[Finding]:
    """Findings where a server cannot be used at all; [] where it can."""
    if reply.status == 0:
        do = "start the server, or correct base_url (with /v1, without a blank)"
        return [Finding(check, "problem", f"{url} cannot be reached ({reply.reason})", do)]
    if reply.status in (401, 403):
        state = "is set, but refused" if os.environ.get(variable) else "is not set"
        seen = f"{url} says {reply.status}: the key in {variable} {state}"
        return [Finding(check, "problem", seen, f"export {variable}=...")]
    return []


def endpoint(run: Run) -> list[Finding]:
    """The LLM's server."""
    check, s = "endpoint", run.settings
    if run.kind == "openai":
        return _of_openai(run)
    if run.kind != "api":
        return [Finding(check, "ok", "the LLM is no server")]
    variable = _KEYS.get(s.llm, "OPENAI_API_KEY")
    url = str(s.llm_args.get("base_url") or _DEFAULT_URL.get(s.llm, ""))
    found = _of_key(s.llm, variable, s.llm_args) + _of_readout(run)
    if s.llm not in _ASKED_LIKE_OPENAI:
        seen = f"llm={s.llm} is not asked beforehand; {_key_state(variable)}"
        return found or [Finding(check, "ok", seen)]
    if not url:
        do = "llm_args base_url=http://HOST:PORT/v1/completions (…/chat/completions for chat)"
        return [*found, Finding(check, "problem", f"llm={s.llm} has no base_url", do)]
    root = url.rstrip("/").removesuffix("/completions").removesuffix("/chat")
    header = s.llm_args.get("header")
    names, reply = served_names(root, variable, header)
    broken = unreachable(check, root, variable, reply)
    if broken:
        return [*broken, *found] if reply.status == 0 else broken
    model = str(s.llm_args.get("model") or s.llm_args.get("pretrained") or "")
    if names is not None and model not in names:
        return [*found, _not_served(root, model, names)]
    found += _tiny_requests(run, url, model, variable)
    seen = f"{root} serves {model}" + ("" if names else " (it lists no models)")
    return found or [
        Finding(check, "ok", f"{seen}; {_key_state(variable)}; tiny requests answered")
    ]


def _not_served(url: str, model: str, names: list[str]) -> Finding:
    do = f"llm_args model=; served: {', '.join(names[:10])}"
    return Finding("endpoint", "problem", f"model {model!r} is not served at {url}", do)


def _key_state(variable: str) -> str:
    return f"{variable} is {'set' if os.environ.get(variable) else 'not set'}"


def _of_key(llm: str, variable: str, args: Mapping[str, Any]) -> list[Finding]:
    """Hosted APIs need their key; local servers may do without."""
    if llm.startswith("local") or os.environ.get(variable) or args.get("header"):
        return []
    return [Finding("endpoint", "problem", f"{variable} is not set", f"export {variable}=...")]


def _of_readout(run: Run) -> list[Finding]:
    """Chat APIs of lm-eval score nothing."""
    scored = [q for q in run.known_queries if q.readout in ("letters", "cloze", "continuations")]
    if "chat" not in run.settings.llm or not scored:
        return []
    seen = f"llm={run.settings.llm} gives no log-probabilities, which readout={run.settings.readout} needs on {scored[0].task}"
    do = "readout=sampled or verbalised, or llm=openai (which reads the likeliest first tokens)"
    return [Finding("endpoint", "problem", seen, do)]


def _tiny_requests(run: Run, url: str, model: str, variable: str) -> list[Finding]:
    """One a kind of request that the run makes, in lm-eval's own form."""
    header = run.settings.llm_args.get("header")
    kinds = {"letters": "echo", "cloze": "echo", "continuations": "echo"}
    wanted = sorted({kinds.get(query.readout, "text") for query in run.known_queries} or {"text"})
    chat = "chat" in run.settings.llm
    limit = "max_completion_tokens" if run.settings.llm.startswith("openai-chat") else "max_tokens"
    found = []
    for kind in wanted:
        body: dict[str, Any] = {"model": model, limit: 1, "temperature": 0, "seed": 1234}
        if chat:
            if kind == "echo":
                continue  # _of_readout has said it
            body["messages"] = [{"role": "user", "content": _PROMPT}]
        else:
            body["prompt"] = f"{_PROMPT} 1"
            body |= {"logprobs": 1, "echo": True} if kind == "echo" else {}
        reply = ask(url, variable, body, header)
        if reply.status != 200:
            seen = f"a tiny request ({kind}) failed: {reply.status or reply.reason} {one_line(reply.reason)}"
            do = "look at the server's log and at llm_args"
            found.append(Finding("endpoint", "problem", seen, do))
        elif kind == "echo" and not echoes(reply.body, f"{_PROMPT} 1"):
            seen = "the server does not echo the prompt's tokens with their log-probabilities, which readout=options needs"
            do = "llm=openai (which reads the likeliest first tokens), readout=sampled or verbalised, or vLLM as server"
            found.append(Finding("endpoint", "problem", seen, do))
    return found


def echoes(body: Any, text: str) -> bool:
    """The reply has the tokens of ``text`` with log-probabilities, in the form that lm-eval reads."""
    try:
        top = body["choices"][0]["logprobs"]["top_logprobs"]
        return bool(top) and openai_scores.echoes(read_reply(body, echo=True), text)
    except (TypeError, KeyError, IndexError, PluralismError):
        return False


def _extra_headers(args: Mapping[str, Any], variable: str) -> dict[str, str]:
    """Of ``extra_headers_from_env``, with the key's; empty where there are none. The run says which are not set."""
    given = args.get("extra_headers_from_env")
    named = given if isinstance(given, Mapping) else {}
    found = {str(name): os.environ.get(str(of), "") for name, of in named.items()}
    key = os.environ.get(variable)
    return {"Authorization": f"Bearer {key}"} | found if found and key else found


def _of_openai(run: Run) -> list[Finding]:
    """``llm=openai``: what its own probe finds."""
    from pluralism_eval.llm.load import load_llm

    check, s = "endpoint", run.settings
    variable = str(s.llm_args.get("api_key_variable") or "OPENAI_API_KEY")
    url = str(s.llm_args.get("base_url") or "https://api.openai.com/v1")
    if "api.openai.com" in url and not os.environ.get(variable):
        return [Finding(check, "problem", f"{variable} is not set", f"export {variable}=...")]
    headers = _extra_headers(s.llm_args, variable)
    names, reply = served_names(url, variable, headers)
    broken = unreachable(check, url, variable, reply)
    if broken:
        return broken
    model = str(s.llm_args.get("model"))
    if names is not None and model not in names and not s.llm_args.get("served_as"):
        return [_not_served(url, model, names)]
    llm: Any = load_llm(replace(s, llm_args={**s.llm_args, **_PATIENCE}))
    probe = llm.probe()
    found = []
    if probe.problem:
        found.append(Finding(check, "problem", one_line(probe.problem), "as it says"))
    if probe.served is False:
        found.append(_not_served(url, model, probe.models or []))
    if any(f.level == "problem" for f in found):
        return found
    gives = [
        "echo" if probe.echo else "no echo",
        f"{probe.top_logprobs} top log-probabilities" if probe.top_logprobs else "no log-probabilities",
        {True: "JSON schemas", False: "no JSON schemas", None: "JSON schemas not asked"}[probe.json_schema],
    ]  # fmt: skip
    seen = f"{url} answers in {probe.seconds:.1f} s; {', '.join(gives)}; {_key_state(variable)}"
    wanted = s.readout
    if wanted == "options":
        seen += f"; readout=options becomes {probe.readout}"
    lacking = {
        "echo": not probe.echo,
        "cloze": not probe.echo,
        "top_logprobs": not probe.top_logprobs,
    }
    why = (
        probe.no_echo
        if wanted in ("echo", "cloze")
        else probe.no_top
        if probe.readout == "sampled"
        else ""
    )
    seen += f" ({why})" if why else ""
    if lacking.get(wanted):
        do = f"readout=options (here: {probe.readout})"
        return [Finding(check, "problem", f"{seen}; readout={wanted} cannot work", do)]
    top = run.preset.top_tokens
    short = probe.readout == "echo" if wanted == "options" else wanted == "echo"
    if top is not None and run.letters and (short or 0 < probe.top_logprobs < top):
        do = "preset=paper, or a server that gives so many (readout=top_logprobs)"
        seen = f"{seen}; preset={run.preset.name} reads the {top} likeliest tokens"
        return [Finding(check, "problem", seen, do)]
    foreign = [q for q in run.known_queries if q.readout == "continuations"]
    if foreign and not probe.echo:
        do = "api=completions on a server that echoes (vLLM does)"
        return [Finding(check, "problem", f"{seen}; {foreign[0].task} needs echo", do)]
    return _of_start(run, llm, seen)


def _of_start(run: Run, llm: Any, seen: str) -> list[Finding]:
    """Chat prompts that we render begin with a start token, which many servers put before them once more."""
    if not run.chat or run.settings.llm_args.get("api") != "completions":
        return [Finding("endpoint", "ok", seen)]
    try:
        added = llm.adds_start()
    except PluralismError as error:
        do = "tokenizer=<the served model's>, or api=chat"
        return [Finding("endpoint", "problem", one_line(str(error)), do)]
    note = (
        f"it puts {added!r} before prompts, so ours are sent without"
        if added
        else "it adds no second start token"
    )
    return [Finding("endpoint", "ok", f"{seen}; {note}")]


# ---------------------------------------------------------------------- communities


def served_communities(run: Run) -> list[Finding]:
    """Names on their servers, and one answer of each."""
    check = "served communities"
    served = [c for c in run.communities if c.base_url]
    if not served:
        return [Finding(check, "ok", "none")]
    found, answered = [], 0
    for url, variable in dict.fromkeys((c.base_url, c.api_key_variable) for c in served):
        members = [c for c in served if (c.base_url, c.api_key_variable) == (url, variable)]
        names, reply = served_names(url, variable)
        broken = unreachable(check, url, variable, reply)
        if broken:
            found += broken
            continue
        for c in members:
            wanted = [name for name in (c.model, c.base if not c.persona else "") if name]
            lost = [name for name in wanted if names is not None and name not in names]
            if lost:
                do = f"served: {', '.join((names or [])[:10])}; is the adapter loaded (--lora-modules)?"
                seen = f"{c.name}: {', '.join(map(repr, lost))} is not served at {url}"
                found.append(Finding(check, "problem", seen, do))
                continue
            body: dict[str, Any] = {"model": c.model, "max_tokens": 1, "temperature": 0}
            chat = c.chat == "true" or (c.chat == "auto" and bool(c.persona))
            if chat:
                body["messages"] = [{"role": "user", "content": _PROMPT}]
            else:
                body["prompt"] = _PROMPT
            path = "/chat/completions" if chat else "/completions"
            reply = ask(url.rstrip("/") + path, variable, body)
            if reply.status != 200:
                seen = f"{c.name}: a tiny request failed: {reply.status} {one_line(reply.reason)}"
                found.append(Finding(check, "problem", seen, "look at the server's log"))
            else:
                answered += 1
    return found or [Finding(check, "ok", f"{answered} answer")]
