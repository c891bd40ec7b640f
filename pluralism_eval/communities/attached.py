"""One adapter on a base model: PEFT attaches it to a module tree of its own, whose weights are the base's."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralism_eval.communities.adapters import CONFIG, WEIGHTS
from pluralism_eval.communities.kinds import beyond_plain, refusal
from pluralism_eval.errors import PluralismError


@dataclass(frozen=True)
class Attached:
    """An adapter as PEFT alone gives it on a fresh base."""

    name: str
    model: Any
    """The PEFT model."""
    layers: Mapping[str, Any] | None
    """Path in the base → PEFT's layer, where it is plain LoRA of linear layers and nothing else; else None."""
    fields: Mapping[str, Any]
    """Of its configuration, those that make it more."""
    nbytes: int
    """What it takes beside the base's weights."""


def attach(base: Any, name: str, folder: Path) -> Attached:
    """``base`` stays as it is: its modules are not touched, and what the adapter brings for its weights goes to copies.

    Raises:
        PluralismError: the adapter is refused, or PEFT cannot attach it.
    """
    from peft import PeftModel

    refused = refusal(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    if refused:
        raise PluralismError(f"adapter {name!r} {refused}")
    kept = [(w, w.data, w.requires_grad) for w in base.parameters()]
    try:
        tree = tree_of(base, _brought(folder / WEIGHTS))
        peft = PeftModel.from_pretrained(tree, str(folder)).eval()
    except Exception as error:  # PEFT and models raise what they like
        reason = (str(error) or type(error).__name__).splitlines()[0][:300]
        raise PluralismError(f"adapter {name!r} does not fit the base model: {reason}") from error
    finally:
        rewritten = [(w, data) for w, data, _ in kept if _pointer(w) != _pointer(data)]
        for weight, data in rewritten:
            weight.data = data
        for weight, _, flag in kept:
            # torch multiplies in another order where it is off: other last digits
            weight.requires_grad_(flag)
    (config,) = peft.peft_config.values()
    fields = beyond_plain(config.to_dict())
    if rewritten:
        raise changes_the_base(name, fields, f"{len(rewritten)} of its weights")
    shared = {id(weight) for weight, *_ in kept}
    nbytes = sum(weight.nbytes for weight in peft.parameters() if id(weight) not in shared)
    return Attached(name, peft, _plain(base, peft), fields, nbytes)


def _pointer(weight: Any) -> int:
    try:
        return int(weight.data_ptr())
    except RuntimeError:  # made of other tensors, as quantised ones are: the canaries tell
        return 0


def changes_the_base(name: str, fields: Mapping[str, Any], what: str) -> PluralismError:
    """The error for an adapter after which the base is another."""
    blamed = (
        ", ".join(f"{key}={value!r}" for key, value in fields.items()) or "a field unknown here"
    )
    return PluralismError(
        f"adapter '{name}' changes the base model that others share ({what}), by {blamed}: nothing was written. Train it "
        "without, or merge it into its base and serve the result (engine: served)"
    )


def _brought(weights: Path) -> set[str]:
    """Names of tensors of the file, as the base would call them: biases, embeddings and heads are the base's own."""
    from safetensors import safe_open

    with safe_open(str(weights), framework="pt") as file:
        return {
            name.removeprefix("base_model.model.").replace(".base_layer", "")
            for name in file.keys()  # noqa: SIM118 - not a mapping
        }


def tree_of(base: Any, own: set[str]) -> Any:
    """Modules and settings of their own, on the weights of ``base`` but for copies of those named."""
    tensors = [
        *base.named_parameters(remove_duplicate=False),
        *base.named_buffers(remove_duplicate=False),
    ]
    copied = {id(tensor) for name, tensor in tensors if name in own}
    memo: dict[int, Any] = {id(t): t for _, t in tensors if id(t) not in copied}
    ours = [key for key in base.__dict__ if key.startswith("_pluralism_")]
    memo |= {id(base.__dict__[key]): None for key in ours}  # read from those modules
    tree = copy.deepcopy(base, memo)
    for key in ours:
        del tree.__dict__[key]
    return tree


def _plain(base: Any, peft: Any) -> dict[str, Any] | None:
    """See :attr:`Attached.layers`; everything else in the tree must be, place by place, the base's own."""
    from peft.tuners.lora.layer import Linear
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    tree = peft.get_base_model()
    layers = {
        path: module
        for path, module in tree.named_modules()
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper))
    }
    plain = all(
        type(layer) is Linear
        and not layer.merged
        and not getattr(layer, "lora_variant", None)
        and not any(layer.lora_bias.values())
        for layer in layers.values()
    )
    theirs = {
        name.replace(".base_layer", ""): id(weight)
        for name, weight in tree.named_parameters(remove_duplicate=False)
        if ".lora_" not in name
    }
    own = {name: id(weight) for name, weight in base.named_parameters(remove_duplicate=False)}
    return layers if plain and theirs == own else None
