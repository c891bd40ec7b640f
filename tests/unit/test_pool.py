"""Pools, adapters and exported messages: what is wrong is said before anything is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pluralism_eval.communities import adapters, registry
from pluralism_eval.communities.catalogue import Community, load_pool, named_pools
from pluralism_eval.communities.pool import make_pool
from pluralism_eval.communities.store import MessageSource
from pluralism_eval.errors import PluralismError
from pluralism_eval.prompts import Prompts
from pluralism_eval.settings import parse

EMBEDDED = Path(adapters.__file__).parent / "embedded" / "adapters"
ENTRY = {"name": "mine", "description": "d", "base": "embedded", "adapter": "embedded/news_left"}


def write(tmp_path: Path, value: object) -> str:
    file = tmp_path / "pool.yaml"
    file.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return str(file)


def test_named_pools_are_the_papers() -> None:
    assert {name: len(pool) for name, pool in named_pools().items()} == {
        "perspective": 6, "culture": 5, "mixed": 6,
        "embedded": 6, "embedded_culture": 5, "embedded_mixed": 6, "control": 4, "control_lora": 4,
    }  # fmt: skip
    mixed = [c.name for c in load_pool("mixed")]
    assert mixed == [
        "news_left",
        "news_center",
        "news_right",
        "africa_culture",
        "asia_culture",
        "southamerica_culture",
    ]
    assert {c.base for c in load_pool("perspective")} == {"mistralai/Mistral-7B-Instruct-v0.1"}


def test_a_users_pool_may_name_shipped_communities(tmp_path: Path) -> None:
    pool = load_pool(write(tmp_path, [ENTRY, "embedded/news_right"]))
    assert [c.name for c in pool] == ["mine", "news_right"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ([], "an empty pool"),
        ("a: [1", "cannot be read as YAML"),
        ({"name": "x"}, "must be a list"),
        ([{**ENTRY, "name": "a.b"}], "letters, digits"),
        ([ENTRY, ENTRY], "used twice"),
        ([{"name": "x", "colour": "red"}], "missing .*description.* unknown .*colour"),
        (["embedded/nobody"], "unknown community 'embedded/nobody'"),
        ([7], "mapping or the name of a community"),
    ],
)
def test_bad_pools(tmp_path: Path, content: object, part: str) -> None:
    with pytest.raises(PluralismError, match=part):
        load_pool(write(tmp_path, content))


def test_an_unknown_pool_lists_the_known() -> None:
    with pytest.raises(PluralismError, match=r"perspective, culture, mixed, embedded"):
        load_pool("perspektive")


def test_patched_pools() -> None:
    """Figure 6 adds (k = 7); the authors' code replaces reddit_center."""
    names = [c.name for c in load_pool("perspective+asia_culture")]
    assert names == [*(c.name for c in load_pool("perspective")), "asia_culture"]
    replaced = [c.name for c in load_pool("perspective-reddit_center+asia_culture")]
    assert replaced == [n for n in names if n != "reddit_center"]
    assert [c.name for c in load_pool("perspective/news_left+africa_culture")] == [
        "news_left",
        "africa_culture",
    ]


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("perspective+news_left", "may be perspective/news_left or embedded/news_left"),
        ("perspective+perspective/news_left", "'news_left' is used twice"),
        ("perspective-nobody", "'nobody' is to be left out, but the pool has news_left"),
        ("perspective+atlantis_culture", "nor a known community .*asia_culture"),
        ("asia_culture-asia_culture", "an empty pool"),
    ],
)
def test_bad_patches(expression: str, part: str) -> None:
    with pytest.raises(PluralismError, match=part):
        load_pool(expression)


def test_a_registered_community_is_usable_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(registry.REGISTRY_VARIABLE, str(tmp_path / "own" / "communities.yaml"))
    for adapter in ("./old", "./new"):
        registry.register(name="nurses", description="d", base="embedded", adapter=adapter)
    registry.register(name="docs-two", description="d", base="embedded", adapter="./two")
    pool = load_pool("embedded+nurses+docs-two")
    assert [c.adapter for c in pool[-2:]] == ["./new", "./two"]
    assert len(pool) == 8
    assert [c.name for c in load_pool(write(tmp_path, ["nurses", "asia_culture"]))] == [
        "nurses",
        "asia_culture",
    ]
    registry.registry_file().write_text("a: [")
    with pytest.raises(PluralismError, match=r"registry .* cannot be read"):
        load_pool("nurses")


SERVER = {"engine": "served", "base_url": "http://x/v1", "model": "m", "base": "b"}


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ({**SERVER, "model": ""}, r"missing \['model'\]"),
        ({**SERVER, "adapter": "x"}, r"unknown \['adapter'\]"),
        ({"engine": "prompted", "persona": "You are a nurse."}, r"missing \['base'\]"),
        ({"engine": "prompted", "base": "embedded"}, r"missing \['persona'\]"),
        ({"engine": "prompted", "persona": "p", "base_url": "u"}, r"missing \['model'\]"),
        ({"engine": "lora", "base": "embedded"}, r"missing \['adapter'\]"),
        ({"engine": "llama.cpp"}, "engine 'llama.cpp' is unknown. Allowed: lora, vllm, served"),
        ({**ENTRY, "pickle": "yes"}, "pickle='yes' must be true or false"),
    ],
)
def test_each_engine_has_its_fields(tmp_path: Path, entry: dict[str, object], part: str) -> None:
    with pytest.raises(PluralismError, match=part):
        load_pool(write(tmp_path, [{"name": "x", "description": "d", **entry}]))


def test_adapters_beside_the_pool_file(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    pool = load_pool(write(tmp_path, [{**ENTRY, "adapter": "./mine"}]))
    assert pool[0].adapter == str(tmp_path / "mine")


def test_vllm_where_it_is_missing(tmp_path: Path) -> None:
    settings = parse(
        "moe",
        {"communities": write(tmp_path, [{**ENTRY, "engine": "vllm"}]), "messages": str(tmp_path)},
    )
    with pytest.raises(PluralismError, match="pip install vllm"):
        make_pool(settings, Prompts(None))


def test_adapter_problems_come_together(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(EMBEDDED / "news_left", wrong)
    config = json.loads((wrong / "adapter_config.json").read_text())
    (wrong / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": "org/other"})
    )
    pickled = tmp_path / "pickled"
    shutil.copytree(EMBEDDED / "news_left", pickled)
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    pool = [
        Community("a", "d", base="embedded", adapter=str(wrong)),
        Community("b", "d", base="embedded", adapter=str(pickled)),
        Community("c", "d", base="embedded", adapter=str(tmp_path)),
        Community("d", "d", base="embedded", adapter="nobody/nothing"),
        Community("e", "d", base="embedded", adapter="embedded/news_left"),
    ]
    with pytest.raises(PluralismError) as caught:
        adapters.resolve_all(pool)
    text = str(caught.value)
    assert "4 problem(s)" in text
    for part in (
        "belongs to base model 'org/other'",
        "only pickled weights",
        "not a PEFT adapter",
        "nobody/nothing",
    ):
        assert part in text


def test_a_folder_with_json_is_read_as_exported_messages(tmp_path: Path) -> None:
    assert not MessageSource(str(tmp_path)).exported
    folder = tmp_path / "msgs"
    folder.mkdir()
    (folder / "x_mistral-news_left.json").write_text("{}")
    assert MessageSource(str(folder)).exported
    with pytest.raises(PluralismError, match="must be a folder"):
        MessageSource(str(folder / "x_mistral-news_left.json"))
