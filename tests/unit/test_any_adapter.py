"""Whatever PEFT can put into an adapter: it gives what PEFT alone gives on a fresh base, and changes nobody else, or it is
refused in one line."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, PeftType, get_peft_model
from peft.tuners.lora import config as lora_config
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from pluralism_eval.communities import adapters, attached, kinds
from pluralism_eval.communities.catalogue import Community
from pluralism_eval.communities.engine import CANARIES, Job, Sampling
from pluralism_eval.communities.lora import LoraEngine
from pluralism_eval.communities.pool import CommunityPool
from pluralism_eval.communities.store import MessageSource
from pluralism_eval.errors import PluralismError
from pluralism_eval.prompts import Prompts

WORDS, EOS, NEW = 48, 7, 5
VOCABULARY = 2 * WORDS
SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    "eos_token_id": EOS, "bos_token_id": 1, "pad_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip
ATTENTION = ["q_proj", "v_proj"]


def saved_base(folder: Path, config: Any) -> Path:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(generator=torch.Generator().manual_seed(1))
    model.save_pretrained(folder)
    canaries = dict.fromkeys(re.findall(r"\w+", " ".join(CANARIES)))
    known = ["<unk>", *(f"w{i}" for i in range(1, WORDS)), *canaries]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(known)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token=f"w{EOS}").save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_base(tmp_path_factory.mktemp("base"), LlamaConfig(**SMALL, attention_bias=True))


@pytest.fixture(scope="module")
def plain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(base, tmp_path_factory.mktemp("plain"))


def fresh(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def trained(base: Path, folder: Path, **settings: Any) -> Path:
    """An adapter as training would leave it: everything that may be trained has moved."""
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ATTENTION} | settings)
    model = get_peft_model(fresh(base), config)
    with torch.no_grad():
        for i, weight in enumerate(p for p in model.parameters() if p.requires_grad):
            weight += 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(i))
    model.save_pretrained(folder)
    return folder


def resolved(base: Path, folders: dict[str, Path]) -> dict[str, adapters.Adapter]:
    return adapters.resolve_all(
        [Community(name, "d", base=str(base), adapter=str(f)) for name, f in folders.items()]
    )


PROMPTS = ["w9 w10 w11 w12", "w30 w8", "w20 w21 w22 w23 w24 w25 w26"]


def engines_texts(engine: LoraEngine, name: str) -> list[str]:
    jobs = [Job(str(i), name, prompt, i) for i, prompt in enumerate(PROMPTS)]
    found = {job.key: out.text for job, out in engine.generate(jobs, Sampling(NEW, temperature=0))}
    return [found[str(i)] for i in range(len(PROMPTS))]


def pefts_texts(model: Any, engine: LoraEngine) -> list[str]:
    settings = GenerationConfig(max_new_tokens=NEW, min_new_tokens=1, do_sample=False, eos_token_id=EOS, pad_token_id=0)  # fmt: skip
    found = []
    for prompt in PROMPTS:
        ids = torch.tensor([engine._local.tokens(prompt)])
        whole = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)  # fmt: skip
        found.append(engine._local._decode(whole[0, ids.shape[1] :].tolist(), [EOS], 0).text)
    return found


def check(base: Path, folders: dict[str, Path]) -> LoraEngine:
    """All of ``folders`` on one base, each against PEFT alone on a fresh one."""
    engine = LoraEngine(str(base), resolved(base, folders))
    ids = torch.tensor([engine._local.tokens(PROMPTS[0])] * 2)
    bare = engine._local.next_logits(engine._local.model, ids.tolist())
    alone = engine._local.next_logits(fresh(base), ids.tolist())
    assert torch.equal(bare, alone)
    for name, folder in folders.items():
        model = PeftModel.from_pretrained(fresh(base), str(folder)).eval()
        with torch.inference_mode():
            expected = model(input_ids=ids).logits[:, -1]
            with engine._acting(name) as (own, choose):
                found = engine._local.next_logits(own, ids.tolist(), choose([name] * 2))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert engines_texts(engine, name) == pefts_texts(model, engine)
        assert engine.prove([name])[name]["max_abs_difference"] > 1e-3
    again = engine._local.next_logits(engine._local.model, ids.tolist())
    assert torch.equal(again, alone)
    return engine


def _sub(name: str, **settings: Any) -> Any:
    kind = getattr(lora_config, name, None)
    return kind(**settings) if kind else {}


MIXED, ALONE = "mixed", "alone"
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "r": ({"r": 2}, MIXED),
    "target_modules": ({"target_modules": "all-linear"}, MIXED),
    "target_modules, embeddings": ({"target_modules": ["embed_tokens", "q_proj"]}, ALONE),
    "target_modules, embeddings only": ({"target_modules": ["embed_tokens"]}, ALONE),
    "target_modules, head": ({"target_modules": ["lm_head"]}, ALONE),
    "exclude_modules": ({"exclude_modules": ["v_proj"]}, MIXED),
    "lora_alpha": ({"lora_alpha": 32}, MIXED),
    "lora_dropout": ({"lora_dropout": 0.5}, MIXED),
    "fan_in_fan_out": ({"fan_in_fan_out": True}, MIXED),
    "bias": ({"bias": "all"}, ALONE),
    "bias, lora_only": ({"bias": "lora_only"}, ALONE),
    "use_rslora": ({"use_rslora": True}, MIXED),
    "modules_to_save": ({"modules_to_save": ["lm_head", "norm"]}, ALONE),
    "modules_to_save, embeddings": ({"modules_to_save": ["embed_tokens"]}, ALONE),
    "init_lora_weights": ({"init_lora_weights": False}, MIXED),
    "init_lora_weights, gaussian": ({"init_lora_weights": "gaussian"}, MIXED),
    "init_lora_weights, orthogonal": ({"init_lora_weights": "orthogonal"}, MIXED),
    "init_lora_weights, eva": ({"init_lora_weights": "eva"}, MIXED),
    "eva_config": ({"init_lora_weights": "eva", "eva_config": lora_config.EvaConfig()}, MIXED),
    "init_lora_weights, mica": ({"init_lora_weights": "mica"}, ALONE),
    "lora_ga_config": ({"init_lora_weights": "lora_ga", "lora_ga_config": _sub("LoraGAConfig")}, MIXED),
    "layers_to_transform": ({"layers_to_transform": [1]}, MIXED),
    "layers_pattern": ({"layers_to_transform": 1, "layers_pattern": "layers"}, MIXED),
    "rank_pattern": ({"rank_pattern": {"v_proj": 2}}, MIXED),
    "alpha_pattern": ({"alpha_pattern": {"q_proj": 3}}, MIXED),
    "trainable_token_indices": ({"trainable_token_indices": [9, 20]}, ALONE),
    "use_dora": ({"use_dora": True}, ALONE),
    "use_dora, bias": ({"use_dora": True, "bias": "all", "modules_to_save": ["norm"]}, ALONE),
    "velora_config": ({"velora_config": _sub("VeloraConfig", num_groups=8)}, ALONE),
    "use_bdlora": (
        {"use_bdlora": _sub("BdLoraConfig", nblocks=2, target_modules_bd_a=["q_proj"], target_modules_bd_b=["v_proj"])},
        ALONE,
    ),
    "layer_replication": ({"layer_replication": [[0, 2], [1, 3]]}, ALONE),
    "lora_bias": ({"lora_bias": True}, ALONE),
    "target_parameters": ({"target_modules": [], "target_parameters": ["mlp.gate_proj.weight"]}, ALONE),
    "ensure_weight_tying": ({"ensure_weight_tying": True, "modules_to_save": ["embed_tokens"]}, ALONE),
}  # fmt: skip
REFUSED = {
    **{f"init_lora_weights, {kind}": ({"init_lora_weights": kind}, "path_initial_model_for_weight_conversion")
       for kind in ("pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "loftq", "unheard_of")},
    "megatron_config": ({"megatron_config": {"a": 1}}, "module of its choice"),
    "monteclora_config": ({"monteclora_config": {"num_samples": 2}}, "train it as plain LoRA"),
    "kasa_config": ({"kasa_config": {"beta": 1}}, "train it as plain LoRA"),
    "arrow_config": ({"arrow_config": {"top_k": 2}}, "communities of their own"),
    "alora_invocation_tokens": ({"alora_invocation_tokens": [9]}, "train it as plain LoRA"),
    **{f"peft_type, {kind.value}": ({"peft_type": kind.value}, "LORA is needed: convert")
       for kind in PeftType if kind is not PeftType.LORA},
}  # fmt: skip
WITHOUT_EFFECT = {
    "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode", "megatron_core",
    "loftq_config", "corda_config", "use_qalora", "qalora_group_size", "runtime_config",
}  # fmt: skip
"""What is recorded, or what only training, another field or another kind of base reads."""


def test_every_field_of_this_peft_is_tried() -> None:
    tried = {name.split(",")[0] for name in (*CASES, *REFUSED)} | WITHOUT_EFFECT
    assert {field.name for field in dataclasses.fields(LoraConfig)} <= tried


@pytest.mark.parametrize("case", [*CASES, *REFUSED])
def test_an_adapter_gives_what_peft_alone_gives_or_is_refused(
    case: str, base: Path, plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside a plain one, under names that torch's containers have too."""
    if case in REFUSED:
        change, way_out = REFUSED[case]
        plain = Path(shutil.copytree(plain, tmp_path / "changed"))
        file = plain / adapters.CONFIG
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
        with pytest.raises(PluralismError, match=way_out) as caught:
            resolved(base, {"values": plain})
        assert len(str(caught.value).splitlines()) == 2
        return
    settings, how = CASES[case]
    known = {field.name: str(field.type) for field in dataclasses.fields(LoraConfig)}
    new = settings.get("init_lora_weights") == "mica" and "mica" not in known["init_lora_weights"]
    if new or not settings.keys() <= known.keys() or {} in settings.values():
        pytest.skip(f"peft {peft.__version__} has no {case}")
    with caplog.at_level(logging.WARNING, "pluralism_eval"):
        engine = check(base, {"values": plain, "training": trained(base, tmp_path / "own", **settings)})  # fmt: skip
    assert set(engine._alone) == ({"training"} if how == ALONE else set())
    assert ("MB more" in caplog.text) == (how == ALONE)


def test_several_that_rewrote_their_base_share_it(base: Path, tmp_path: Path) -> None:
    """Two biases, two numbers of layers, two heads, under the names of torch's own attributes."""
    settings = {
        "keys": {"bias": "all"}, "update": {"bias": "lora_only"}, "pop": {}, "bias": {"layer_replication": [[0, 3], [2, 3]]},
        "lora_": {"layer_replication": [[0, 1], [0, 3]]}, "weight": {"modules_to_save": ["lm_head"]},
        "default": {"modules_to_save": ["lm_head"], "bias": "all", "use_dora": True}, "base.layer": {"r": 3},
    }  # fmt: skip
    check(base, {name: trained(base, tmp_path / name, **own) for name, own in settings.items()})


def test_an_embedding_that_the_file_brings_along_is_its_own(base: Path, tmp_path: Path) -> None:
    """PEFT writes it over the base's."""
    folder = trained(base, tmp_path / "own", target_modules=["embed_tokens"])
    state = load_file(folder / adapters.WEIGHTS)
    (name,) = (name for name in state if name.endswith("base_layer.weight"))
    state[name] = state[name] + 1
    save_file(state, folder / adapters.WEIGHTS)
    check(base, {"values": trained(base, tmp_path / "plain"), "other": folder})


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_whatever_changes_the_base_all_the_same_is_blamed(
    init: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever passes the first check."""
    folders = {"plain": trained(base, tmp_path / "plain"), "guilty": trained(base, tmp_path / "guilty")}  # fmt: skip
    members = resolved(base, folders)
    file = folders["guilty"] / adapters.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | {"init_lora_weights": init}))
    with pytest.raises(PluralismError, match=f"'guilty' has init_lora_weights='{init}'"):
        LoraEngine(str(base), members)
    monkeypatch.setattr(attached, "refusal", lambda config: "")
    kept: list[Any] = []
    attach = attached.attach
    monkeypatch.setattr("pluralism_eval.communities.lora.attach", lambda model, *more: (kept.append(model), attach(model, *more))[1])  # fmt: skip
    with pytest.raises(PluralismError, match=f"'guilty' changes the base .* by init_lora_weights='{init}'"):  # fmt: skip
        LoraEngine(str(base), members)
    ids = torch.tensor([[9, 10, 11]])
    if init == "pissa":  # the other writes into the memory of the weights
        assert torch.equal(kept[0](ids).logits, fresh(base)(ids).logits)


def test_the_way_out_of_pissa_leads_to_a_plain_adapter(base: Path, tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=ATTENTION, init_lora_weights="pissa")
    model = get_peft_model(fresh(base), config)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "initial")
    model.peft_config["default"].init_lora_weights = "pissa"
    with torch.no_grad():
        for weight in (p for n, p in model.named_parameters() if "lora_B" in n):
            weight += 0.2
    ids = torch.tensor([[9, 10, 11]])
    trained_logits = model.eval()(ids).logits[:, -1]
    model.save_pretrained(
        tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "initial")
    )
    engine = check(base, {"converted": tmp_path / "plain"})
    with torch.inference_mode(), engine._acting("converted") as (own, choose):
        found = engine._local.next_logits(own, ids.tolist(), choose(["converted"]))
    torch.testing.assert_close(found, trained_logits, atol=1e-4, rtol=1e-4)


def test_what_is_written_into_the_shared_weights_is_found_by_the_canaries(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = resolved(base, {"guilty": trained(base, tmp_path / "guilty", use_dora=True)})
    attach = attached.attach

    def writing(model: Any, name: str, folder: Path) -> Any:
        found = attach(model, name, folder)
        model.lm_head.weight.data[9, 0] += 1e-3
        return found

    monkeypatch.setattr("pluralism_eval.communities.lora.attach", writing)
    with pytest.raises(PluralismError, match=r"'guilty' changes the base .*own logits.* use_dora=True"):  # fmt: skip
        LoraEngine(str(base), members)


TINY_HYBRID = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}  # fmt: skip
OTHER_BASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "mamba": ({"state_size": 4, "expand": 2}, ["in_proj", "x_proj"]),
    "mamba2": ({"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 2, "expand": 2}, ["in_proj"]),
    "lfm2": ({"layer_types": ["conv", "full_attention", "conv"]}, ["in_proj", "q_proj"]),
    "recurrent_gemma": ({"lru_width": 32, "attention_window_size": 16, "head_dim": 8}, ["linear_x", "q_proj"]),
    "qwen3_next": (
        {"layer_types": ["linear_attention", "full_attention", "linear_attention"], "num_experts": 4, "num_experts_per_tok": 2,
         "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "head_dim": 8, **TINY_HYBRID},
        ["in_proj_qkvz", "q_proj"],
    ),
    "mixtral": ({"num_local_experts": 4}, ["q_proj", "gate"]),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 4}, ["c_attn"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER_BASES)
def test_other_bases(kind: str, tmp_path: Path) -> None:
    """Those that keep more of a token than keys and values are written by transformers' ``generate``."""
    more, targets = OTHER_BASES[kind]
    config = AutoConfig.for_model(kind, **SMALL | more)
    folder = saved_base(tmp_path / "base", config)
    folders = {
        "keys": trained(folder, tmp_path / "keys", target_modules=targets),
        "dora": trained(folder, tmp_path / "dora", target_modules=targets[:1], use_dora=True),
    }
    check(folder, folders)


def test_samples_of_generate_depend_on_prompt_and_seed_alone(tmp_path: Path) -> None:
    """And not on what the base's own settings would change."""
    folder = saved_base(tmp_path / "base", AutoConfig.for_model("mamba", **SMALL, state_size=4))
    member = {"keys": trained(folder, tmp_path / "keys", target_modules=["in_proj"])}
    engine = LoraEngine(str(folder), resolved(folder, member))

    def texts(jobs: list[Job]) -> dict[str, str]:
        return {job.key: out.text for job, out in engine.generate(jobs, Sampling(NEW))}

    jobs = [Job(f"{i}", "keys", PROMPTS[i % 3], i) for i in range(6)]
    together = texts(jobs)
    engine._local.model.generation_config.repetition_penalty = 50.0
    assert together == {k: v for job in reversed(jobs) for k, v in texts([job]).items()}
    assert len(set(together.values())) > 3


def test_only_adapters_that_rewrote_the_base_have_a_new_key() -> None:
    plain = {"peft_type": "LORA", "bias": "none", "layer_replication": None}
    assert kinds.key_version(plain) == 1
    assert kinds.key_version(plain | {"use_dora": True, "modules_to_save": ["a"]}) == 1
    for more in ({"bias": "all"}, {"bias": "lora_only"}, {"layer_replication": [[0, 1]]}):
        assert kinds.key_version(plain | more) == 2


def test_messages_of_such_adapters_are_asked_anew_and_of_no_others(
    base: Path, plain: Path, tmp_path: Path
) -> None:
    own = trained(base, tmp_path / "own", bias="all")
    members = [
        Community(n, "d", base=str(base), adapter=str(f)) for n, f in (("a", plain), ("b", own))
    ]
    pool = CommunityPool(members, Prompts(None), MessageSource(str(tmp_path / "store")), 4)
    assert [pool._identity(member).get("version") for member in members] == [None, "2"]
