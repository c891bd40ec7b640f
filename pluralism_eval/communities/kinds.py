"""What an adapter's configuration asks for: plain LoRA, more than that, or what cannot be read rightly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KEEP_THE_BASE = (True, False, None, "gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Values of ``init_lora_weights`` after which the base's weights are what they were."""
_PLAIN = {
    "r", "lora_alpha", "target_modules", "exclude_modules", "lora_dropout", "fan_in_fan_out", "use_rslora",
    "init_lora_weights", "eva_config", "lora_ga_config", "layers_to_transform", "layers_pattern", "rank_pattern",
    "alpha_pattern", "qalora_group_size", "megatron_core", "runtime_config", "task_type", "peft_type", "peft_version",
    "auto_mapping", "base_model_name_or_path", "revision", "inference_mode",
}  # fmt: skip
"""Fields that leave it plain LoRA."""
_REFUSED = {
    "megatron_config": "makes PEFT import a module of its choice; remove it",
    "kasa_config": "cuts the smallest singular values off the base's weights; train it as plain LoRA",
    "monteclora_config": "draws parts of its weights at random; train it as plain LoRA",
    "arrow_config": "chooses between several adapters; list these as communities of their own",
    "alora_invocation_tokens": "acts only after tokens that no message prompt has; train it as plain LoRA",
}
"""Field → what it does, and the way out."""
_CONVERT = (
    "it rewrites the base's weights as it is loaded, and no two machines need do so alike; convert it to plain LoRA: "
    "save it again with PEFT's model.save_pretrained(..., path_initial_model_for_weight_conversion=...)"
)


def refusal(config: Mapping[str, Any]) -> str:
    """Why an adapter with this ``adapter_config.json`` is refused, and the way out; empty where it is not."""
    kind = config.get("peft_type")
    if kind != "LORA":
        return (
            f"is of type {kind!r}; LORA is needed: convert it with PEFT's save_as_lora, where PEFT can; or merge it into its "
            "base and serve the result (engine: served); or train it anew (pluralism-eval train)"
        )
    if _rewrites(config):
        return f"has init_lora_weights={config['init_lora_weights']!r}: {_CONVERT}"
    field = next((name for name in _REFUSED if config.get(name)), None)
    return f"has a {field}, which {_REFUSED[field]}" if field else ""


def beyond_plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, with their values, that make it more than plain LoRA."""
    return {
        name: value
        for name, value in config.items()
        if value
        and value != "none"
        and (name not in _PLAIN or (name == "init_lora_weights" and _rewrites(config)))
    }


def key_version(config: Mapping[str, Any]) -> int:
    """Raised for adapters of which older messages are not to be trusted.

    Those with these fields once rewrote the base that all shared, so that a second one spoke by a wrong base.
    """
    return 2 if {"bias", "layer_replication"} & beyond_plain(config).keys() else 1


def _rewrites(config: Mapping[str, Any]) -> bool:
    init = config.get("init_lora_weights", True)
    return init not in _KEEP_THE_BASE and str(init).lower() not in _KEEP_THE_BASE
