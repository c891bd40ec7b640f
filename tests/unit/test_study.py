"""Study files, the paper's tables as data, and pools compared by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pluralism_eval.errors import PluralismError
from pluralism_eval.planning.pilot import spaced
from pluralism_eval.reproduce import cells, paper, patching
from pluralism_eval.reproduce.targets import GOQA, POOLS, TARGETS, target_of
from pluralism_eval.study import RunSpec, StudyLLM, parse_llm, read_study
from pluralism_eval.usage import Usage


def test_llms_by_name_and_arguments() -> None:
    llm = parse_llm(
        "llama2-13b/aligned=hf:pretrained=meta-llama/X;dtype=bfloat16;chat=true;parameters=13e9"
    )
    assert (llm.name, llm.llm, llm.chat, llm.parameters) == ("llama2-13b/aligned", "hf", True, 13e9)
    assert dict(llm.llm_args) == {"pretrained": "meta-llama/X", "dtype": "bfloat16"}
    assert parse_llm("embedded").name == "embedded"
    assert parse_llm("hf:pretrained=a=b").llm_args == {"pretrained": "a=b"}
    for bad in ("", "x=", "hf:pretrained", "hf:=x"):
        with pytest.raises(PluralismError, match="--llm"):
            parse_llm(bad)


def test_a_study_file_and_all_its_problems(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "llms: [{name: a, llm: embedded}, {llm: hf, llm_args: {pretrained: x}}]\nlimit: 4\nsettings: {seed: 2}"
    )
    llms, given = read_study(file)
    assert [llm.name for llm in llms] == ["a", "hf"]
    assert given == {"limit": 4, "settings": {"seed": 2}}
    file.write_text("llms: [{name: a}, 3, {llm: hf, size: 7}]\nlimits: 3")
    with pytest.raises(PluralismError, match=r"4 problem\(s\)"):
        read_study(file)
    file.write_text("- a")
    with pytest.raises(PluralismError, match="list llms"):
        read_study(file)


def printed_numbers(place: Any) -> int:
    if isinstance(place, dict):
        return sum(printed_numbers(v) for k, v in place.items() if k != "improvement_percent")
    return int(isinstance(place, (int, float)))


@pytest.mark.parametrize("name", [name for name in TARGETS if name.startswith("table")])
def test_every_printed_number_of_a_table_has_its_cell(name: str) -> None:
    target = target_of(name)
    found = [
        paper.printed(name, cells.path_of(target, row, score, llm))
        for llm in paper.models(name) for row in target.rows for score in target.scores
    ]  # fmt: skip
    assert (
        sum(value is not None for value in found)
        == printed_numbers(paper.tables()[name]["data"])
        > 0
    )


def test_known_cells() -> None:
    def cell(table: str, llm: str, row: int, score: int) -> float | None:
        target = target_of(table)
        return paper.printed(
            table, cells.path_of(target, target.rows[row], target.scores[score], llm)
        )

    assert cell("table1", "chatgpt/aligned", 0, 0) == 84.0
    assert cell("table1", "llama2-13b/aligned", 0, 3) == 21.0
    assert cell("table2", "chatgpt/unaligned", 3, 8) == 47.4
    assert cell("table3", "llama2-13b/unaligned", 0, 7) == 0.329
    assert cell("table4", "chatgpt", 2, 1) == 0.7825
    assert cell("table5", "chatgpt/aligned", 3, 0) == 0.549
    assert cell("table7", "llama2-70b", 1, 3) == 0.2498
    assert cell("table10", "gemma-7b/unaligned", 1, 2) == 0.1045
    assert cells.beside("table4", "embedded") == "llama2-13b"
    assert cells.beside("table3", "chatgpt/unaligned") == "chatgpt/unaligned"
    assert cells.beside("table3", "mine") == "llama2-13b/aligned"
    assert cells.beside("figure2", "mine") == ""
    with pytest.raises(PluralismError, match="table11"):
        target_of("table11")


def test_what_differs_from_the_paper_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def reasons(name: str = "chatgpt/aligned", **change: Any) -> tuple[str, ...]:
        given: dict[str, Any] = {
            "settings": {"communities": "perspective"},
            "metadata": {"data": "authors"},
        }
        spec = RunSpec("ours", "modular_pluralism", StudyLLM(name, "hf"), (GOQA,), **given | change)
        target = target_of("table3")
        return cells.cell(target, target.rows[3], target.scores[7], spec, None).reasons  # type: ignore[arg-type]

    monkeypatch.setattr(cells, "measure", lambda run, task, metric: (0.3, 0.2, 0.4))
    pool = {"communities": "perspective"}
    assert reasons() == ()
    assert reasons(name="mine") == ("another LLM: the paper's number is llama2-13b/aligned's",)
    assert reasons(limit=5) == ("only 5 docs a task",)
    assert reasons(metadata={"data": "cleaned"}) == ("other docs: data=cleaned",)
    assert reasons(settings=pool | {"seed": 3, "messages": "x"}) == ()
    for key, value in (
        ("preset", "reference"),
        ("readout", "sampled"),
        ("templates", 3),
        ("orders", 2),
    ):
        assert reasons(settings=pool | {key: value}) == (f"another setting: {key}={value}",)


def test_every_row_names_a_pool_that_exists() -> None:
    from pluralism_eval.communities.catalogue import load_pool

    for pools in POOLS.values():
        assert {row.pool for target in TARGETS.values() for row in target.rows} <= set(pools)
        for pool in pools.values():
            assert len(load_pool(pool)) in (5, 6, 7)


def test_runs_are_told_apart_by_what_they_depend_on() -> None:
    spec = RunSpec("a", "vanilla", parse_llm("embedded"), (GOQA,), metadata={"data": "sample"})
    same = RunSpec("b", "vanilla", parse_llm("embedded"), (GOQA,), metadata={"data": "sample"})
    other = RunSpec("a", "vanilla", parse_llm("embedded"), (GOQA,), {"seed": 3}, {"data": "sample"})
    assert spec.fingerprint() == same.fingerprint() != other.fingerprint()
    with pytest.raises(PluralismError, match="unknown setting colour"):
        RunSpec(
            "a", "vanilla", parse_llm("embedded"), (GOQA,), {"colour": 3}, {"data": "sample"}
        ).check()


def sample(i: int, country: str, jsd: float) -> dict[str, Any]:
    doc = {"id": str(i), "query": f"q{i}", "group": country, "cluster": f"q{i}", "gold": [1.0],
           "pluralism": {"preset": "paper", "attribute": country}}  # fmt: skip
    return {"doc": doc, "jsd": jsd}


def test_changes_per_country_by_hand() -> None:
    countries = ["Japan", "Japan", "India", "India", "Nigeria"]
    before = [sample(i, c, 0.4) for i, c in enumerate(countries)]
    after = [sample(i, c, 0.4 - 0.1 * (c == "Japan")) for i, c in enumerate(countries)]
    found = patching.deltas(GOQA, {"base": before, "+ Asia": after})
    assert [(d.group, d.docs) for d in found] == [
        ("all", 5),
        ("Japan", 2),
        ("India", 2),
    ]  # one doc is no group
    assert [d.difference for d in found] == pytest.approx([-0.04, -0.1, 0.0])
    assert found[0].low <= -0.04 <= found[0].high
    falls = patching.reductions(found, {"+ Asia": ("Japan", "India"), "+ Africa": ("Nigeria",)})
    assert falls == {"+ Asia": pytest.approx(12.5)}
    with pytest.raises(PluralismError, match="different docs"):
        patching.deltas(GOQA, {"base": before, "other": after[1:]})
    with pytest.raises(PluralismError, match="compared with the first"):
        patching.deltas(GOQA, {"base": before})


def test_usage_counts_and_what_they_stand_for() -> None:
    used = Usage()
    used.add(2, 100, 10)
    later = used.plus(Usage(1, 5, 5))
    assert later.since(used) == Usage(1, 5, 5)
    assert used.flops(7e9) == 2 * 7e9 * 110
    assert spaced(12, 4) == [1, 4, 7, 10]
    assert spaced(3, 6) == [0, 1, 2]
