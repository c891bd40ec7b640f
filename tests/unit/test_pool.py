"""Pools, adapters and exported messages: what is wrong is said before anything is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pluralism_eval.communities import adapters
from pluralism_eval.communities.pool import Community, load_pool, named_pools
from pluralism_eval.communities.store import MessageSource
from pluralism_eval.errors import PluralismError

EMBEDDED = Path(adapters.__file__).parent / "embedded" / "adapters"
ENTRY = {"name": "mine", "description": "d", "base": "embedded", "adapter": "embedded/news_left"}


def write(tmp_path: Path, value: object) -> str:
    file = tmp_path / "pool.yaml"
    file.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return str(file)


def test_named_pools_are_the_papers() -> None:
    assert {name: len(pool) for name, pool in named_pools().items()} == {
        "perspective": 6, "culture": 5, "mixed": 6, "embedded": 6,
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
        ([7], "mapping or pool/name"),
    ],
)
def test_bad_pools(tmp_path: Path, content: object, part: str) -> None:
    with pytest.raises(PluralismError, match=part):
        load_pool(write(tmp_path, content))


def test_an_unknown_pool_lists_the_known() -> None:
    with pytest.raises(PluralismError, match=r"perspective, culture, mixed, embedded"):
        load_pool("perspektive")


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
        Community("a", "d", "embedded", str(wrong)),
        Community("b", "d", "embedded", str(pickled)),
        Community("c", "d", "embedded", str(tmp_path)),
        Community("d", "d", "embedded", "nobody/nothing"),
        Community("e", "d", "embedded", "embedded/news_left"),
    ]
    with pytest.raises(PluralismError) as caught:
        adapters.resolve_all(pool)
    text = str(caught.value)
    assert "4 problem(s)" in text
    for part in (
        "belongs to base model 'org/other'",
        "pickled weights are refused",
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
