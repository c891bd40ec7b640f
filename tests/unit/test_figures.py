"""Figures from runs whose answers are made up by a seed and scored by the package's own functions."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pluralism_eval.data.docs import build_docs, read_items
from pluralism_eval.data.sources import input_file
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics import classification, coverage, options
from pluralism_eval.metrics.distance import js_distance
from pluralism_eval.metrics.statistics import mean_interval
from pluralism_eval.plugin import AUTOMATIC, JUDGED
from pluralism_eval.report.figures import Figure, figures, save
from pluralism_eval.report.figures.distributions import chosen
from pluralism_eval.report.figures.style import VARIABLES, css, lines_of, short
from pluralism_eval.results import Run
from pluralism_eval.scoring import scores_of
from pluralism_eval.tasks import headlines

OVERTON, VK, OPINIONQA, MORALCHOICE, GLOBALOPINIONQA = AUTOMATIC
SHORT = dict(
    zip(AUTOMATIC, ("overton", "vk", "opinionqa", "moralchoice", "globalopinionqa"), strict=True)
)
SCORES: dict[str, Callable[..., dict[str, Any]]] = {
    VK: classification.vk,
    OPINIONQA: options.opinionqa,
    MORALCHOICE: options.moralchoice,
    GLOBALOPINIONQA: options.globalopinionqa,
}
COMMUNITIES = ("news_left", "news_right")


def docs_of(task: str, n: int) -> list[dict[str, Any]]:
    """The first ``n`` docs, taken again under new ids and in new clusters where there are fewer."""
    path = input_file(SHORT[task], "sample")
    common: dict[str, Any] = {"input": path.stem, "preset": "paper"}
    if task == OVERTON:
        common |= {"nli": "embedded", "nli_directions": "one"}
    docs = build_docs(SHORT[task], read_items(path), common, path.name)
    return [
        {
            **docs[i % len(docs)],
            "id": f"{i}",
            "cluster": f"{docs[i % len(docs)]['cluster']} {i // len(docs)}",
        }
        for i in range(n)
    ]


def answered(task: str, docs: list[dict[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
    """lm-eval's samples of made-up answers."""
    samples = []
    for i, doc in enumerate(docs):
        if task == OVERTON:
            n = len(doc["explanations"])
            read = {"covered": [rng.random() < 0.5 for _ in range(n)], "entailment": [rng.random() for _ in range(n)], "pairs": n, "unread": 0}  # fmt: skip
            query = {**read, "covered": [k % 2 == 0 for k in range(n)]}
            scorer = {"nli": "embedded", "nli_check": (0.5, 10), **read, "reversed": None}
            result = {"response": "Yes.", "n_sentences": 1, "nli_check": (0.5, 10), "scorers": [scorer], "echo": query}  # fmt: skip
            scores, filtered = coverage.overton(doc, [result]), [result]
        else:
            weights = [rng.random() ** 3 + 1e-3 for _ in doc["letters"]]
            results = [(math.log(w / sum(weights)), False) for w in weights]
            scores, filtered = SCORES[task](doc, results), [[str(v), str(g)] for v, g in results]
        samples.append({"doc_id": i, "doc": doc, "filtered_resps": filtered, **scores})
    return samples


def made(
    name: str, seed: int = 0, llm: str = "model", pool: str = "", tasks: tuple[str, ...] = AUTOMATIC,
    n: int = 8, change: Callable[[str, list[dict[str, Any]]], Any] | None = None,
) -> Run:  # fmt: skip
    """A run; ``change`` edits its docs before they are answered."""
    samples = {}
    for task in tasks:
        docs = docs_of(task, n)
        if change is not None:
            change(task, docs)
        samples[task] = answered(task, docs, random.Random(f"{seed} {task}"))
    results = {task: {"alias": task} for task in tasks}
    return Run(
        name, Path("results.json"), {"pluralism": {}}, results, samples, [], llm=llm, pool=pool
    )


def spoken(run: Run, task: str = GLOBALOPINIONQA) -> Run:
    """With a transcript: what two communities said of every doc, the second unread on the first."""
    for sample in run.samples[task]:
        n = len(sample["doc"]["options"])
        said = [[math.log((1 + (i == k)) / (n + 1)) for i in range(n)] for k in range(2)]
        if sample["doc_id"] == 0:
            said[1] = [-math.inf] * n
        run.transcript.append(
            {
                "task": task, "doc_id": sample["doc_id"], "mode": "distributional", "options": sample["doc"]["letters"],
                "messages": [{"community": c} for c in COMMUNITIES], "selections": [],
                "sent": [{"round": "respond", "scores": {"logprobs": logprobs}} for logprobs in said],
            }
        )  # fmt: skip
    return run


def judged(run: Run, outcomes: str, tags: str = "") -> Run:
    """Judged: w, t, l, d (orders disagree) or u (unread) a pair."""
    verdicts = {
        "w": ["1", "2"],
        "t": ["tie", "tie"],
        "l": ["2", "1"],
        "d": ["1", "1"],
        "u": ["1", None],
    }
    run.results[JUDGED] = {}  # type: ignore[index]
    run.samples[JUDGED] = [  # type: ignore[index]
        {
            "doc_id": i, "doc": {"cluster": f"situation {i}"}, "words": 10.0 + i, "words_baseline": 9.0,
            "filtered_resps": [{"verdicts": verdicts[o], "baseline_name": f"vanilla{tags}"}],
        }
        for i, o in enumerate(outcomes)
    ]  # fmt: skip
    return run


QUICK = tuple(task for task in AUTOMATIC if task != VK)  # whose intervals take seconds


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return {
        "a": made("vanilla", 1),
        "b": judged(made("prompting", 2, tasks=QUICK), "wwtldu"),
        "c": made("modular_pluralism", 3, pool="perspective", tasks=QUICK),
        "d": spoken(made("modular_pluralism", 4, pool="news", tasks=QUICK)),
    }


@pytest.fixture(scope="module")
def found(runs: dict[str, Run]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(runs)}


def table(figure: Figure) -> list[dict[str, str]]:
    """Rows by the names of the header; all as wide as it."""
    header, *rows = figure.rows
    return [dict(zip(header, row, strict=True)) for row in rows]


def texts(svg: str) -> list[str]:
    """What a reader of the figure can read."""
    return [e.text or "" for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")]


def three(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


# ---------------------------------------------------------------------- numbers


def test_there_is_a_figure_for_every_task(found: dict[str, Figure]) -> None:
    assert list(found) == [
        "overview", "figure2", "figure3", "figure4", "countries", "groups", "distributions_moralchoice",
        "distributions_globalopinionqa",
    ]  # fmt: skip


def test_headline_numbers_are_those_of_the_one_source(
    runs: dict[str, Run], found: dict[str, Figure]
) -> None:
    rows = table(found["overview"])
    for column in headlines():
        for label, run in runs.items():
            own = [r for r in rows if r["run"] == label and r["score"].startswith(column.title)]
            if column.task not in run.results:
                assert own == []
                continue
            score = next(s for s in scores_of(run)[column.task] if s.name == column.metric)
            (row,) = own
            expected = (three(score.value), three(score.low), three(score.high), str(score.n))
            assert (row["value"], row["low"], row["high"], row["docs"]) == expected
            shown = f"{score.value:.3f} [{score.low:.2f}, {score.high:.2f}]"
            assert shown in texts(found["overview"].svg)
    (echo,) = (r for r in rows if r["run"] == "(the query itself as response)")
    baseline = next(s for s in scores_of(runs["a"])[OVERTON] if s.name == "coverage_echo")
    assert echo["value"] == three(baseline.value)
    bars = [r for r in table(found["figure2"]) if r["run"] == "b"]
    assert [r["value"] for r in bars] == [r["value"] for r in rows if r["run"] == "b"][:1]


@pytest.mark.parametrize(
    ("name", "column", "task", "metrics"),
    [
        ("figure4", "ambiguity", MORALCHOICE, {"Low ambiguity ↓": "jsd_low", "High ambiguity ↓": "jsd_high"}),
        ("countries", "country", GLOBALOPINIONQA, {"Germany ↓": "jsd_germany", "United States ↓": "jsd_united_states"}),
        ("groups", "category", OPINIONQA, {"Political party ↑": "match_polparty", "Race ↑": "match_race"}),
    ],
)  # fmt: skip
def test_group_numbers_are_those_of_the_one_source(
    runs: dict[str, Run], found: dict[str, Figure], name: str, column: str, task: str, metrics: dict[str, str]
) -> None:  # fmt: skip
    for group, metric in metrics.items():
        for label, run in runs.items():
            score = next(s for s in scores_of(run)[task] if s.name == metric)
            (row,) = (r for r in table(found[name]) if (r[column], r["run"]) == (group, label))
            expected = [three(score.value), three(score.low), three(score.high), str(score.n)]
            assert [row["value"], row["low"], row["high"], row["docs"]] == expected


def test_ambiguity_has_the_baselines_of_its_own_docs(found: dict[str, Figure]) -> None:
    rows = {(r["ambiguity"], r["run"]): r["value"] for r in table(found["figure4"])}
    assert rows["High ambiguity ↓", "(uniform)"] == "0.000"
    assert float(rows["Low ambiguity ↓", "(uniform)"]) == pytest.approx(
        js_distance([0.5, 0.5], [1, 0]), abs=5e-4
    )


def test_win_tie_lose_by_hand(found: dict[str, Figure]) -> None:
    (row,) = table(found["figure3"])
    assert (row["run"], row["against"], row["pairs"], row["scored"]) == ("b", "vanilla", "6", "5")
    assert (row["win"], row["tie"], row["lose"]) == ("0.400", "0.400", "0.200")
    low, high = mean_interval([1.0, 1.0, 0.0, 0.0, 0.0])
    assert (row["win low"], row["win high"]) == (three(low), three(high))
    assert (row["disagreement"], row["unread"]) == ("0.200", "0.167")
    assert "wins 40 %" in found["figure3"].alt
    assert {"40 %", "20 %", "5 pairs"} <= set(texts(found["figure3"].svg))


def test_countries_beyond_twelve_panels_are_summed_up_and_all_listed() -> None:
    names = ["Nigeria", *(f"Country {chr(ord('P') - i)}" for i in range(14)), "United States"]

    def change(task: str, docs: list[dict[str, Any]]) -> None:
        for i, doc in enumerate(docs):
            doc["group"] = names[i % len(names)]

    run = made("vanilla", tasks=(GLOBALOPINIONQA,), n=32, change=change)
    figure = next(f for f in figures({"run": run}) if f.name == "countries")
    rows = [r for r in table(figure) if r["run"] == "run"]
    order = [r["country"].removesuffix(" ↓") for r in rows]
    assert order[:3] == ["United States", "Nigeria", "Country P"]  # Table 3's, then as in the data
    assert sorted(order[:16]) == sorted(names)
    assert order[16:] == ["5 others"]
    drawn = {text for text in texts(figure.svg) if text.endswith("↓")}
    assert drawn == {f"{name} ↓" for name in [*order[:11], "5 others"]}
    rest = [s["jsd"] for s in run.samples[GLOBALOPINIONQA] if s["doc"]["group"] in order[11:16]]
    assert (rows[-1]["value"], rows[-1]["docs"]) == (three(sum(rest) / len(rest)), "10")
    assert "5 more countries" in figure.caption


# ---------------------------------------------------------------------- docs in full


def test_docs_are_spread_over_the_disagreement_between_runs() -> None:
    def run(shares: list[float]) -> dict[tuple[str, str], dict[str, Any]]:
        return {
            (f"{i}", "q"): {"filtered_resps": [[math.log(p)], [math.log(1 - p)]], "jsd": 0.0}
            for i, p in enumerate(shares)
        }

    moved = [0.5 + 0.4 * i / 39 for i in range(40)]
    picked = chosen([run([0.5] * 40), run(moved)])
    assert [int(i) // 10 for i, _ in picked] == [0, 1, 2, 3]
    assert picked == chosen([run(moved), run([0.5] * 40)])
    assert len(chosen([run([0.5] * 3)])) == 3
    assert [i for i, _ in chosen([run([0.5] * 40), dict([*run(moved).items()][:1])])] == ["0"]


def test_answers_and_readings_of_single_communities(
    runs: dict[str, Run], found: dict[str, Figure]
) -> None:
    figure = found["distributions_globalopinionqa"]
    rows = table(figure)
    docs = {r["doc"] for r in rows}
    assert len(docs) == 4
    samples = {s["doc"]["id"]: s for s in runs["b"].samples[GLOBALOPINIONQA]}
    for doc in docs:
        own = {r["answer of"]: r for r in rows if r["doc"] == doc}
        gold = samples[doc]["doc"]["gold"]
        n = len(gold)
        assert [own["people"][letter] for letter in "ABCD"[:n]] == [three(p) for p in gold]
        assert own["prompting"]["J-S"] == three(samples[doc]["jsd"])
        answer = options.predicted(samples[doc]["filtered_resps"])[0]
        assert [own["prompting"][letter] for letter in "ABCD"[:n]] == [three(p) for p in answer]
        left = own["news_left (single communities of modular_pluralism, news)"]
        said = [(1 + (i == 0)) / (n + 1) for i in range(n)]
        assert [left[letter] for letter in "ABCD"[:n]] == [three(p) for p in said]
        assert left["J-S"] == three(js_distance(said, gold))
    assert "in the run d" in figure.caption
    assert "No run has a transcript" in found["distributions_moralchoice"].caption


def test_a_reading_that_nobody_could_read_is_a_dash() -> None:
    run = spoken(made("modular_pluralism", tasks=(GLOBALOPINIONQA,), n=1))
    figure = next(f for f in figures({"run": run}) if f.name.startswith("distributions"))
    rows = {r["answer of"].split(" ")[0]: r for r in table(figure)}
    assert (rows["news_right"]["A"], rows["news_right"]["J-S"]) == ("–", "–")
    assert rows["news_left"]["A"] != "–"


# ---------------------------------------------------------------------- odd runs


def test_what_the_runs_lack_is_left_out() -> None:
    assert figures({}) == []
    assert figures({"run": made("vanilla", tasks=())}) == []
    only = figures({"run": made("vanilla", tasks=(OVERTON,))})
    assert [f.name for f in only] == ["overview", "figure2"]
    two = {"a": made("vanilla", tasks=(OVERTON,)), "b": made("moe", tasks=(MORALCHOICE,))}
    overview = figures(two)[0]
    assert "A dash" in overview.caption
    assert texts(overview.svg).count("–") == 2


def test_results_without_samples_are_an_error() -> None:
    run = made("vanilla", tasks=(OVERTON,))
    run.samples.clear()  # type: ignore[attr-defined]
    with pytest.raises(PluralismError, match="no samples of pluralism_overton_nli"):
        figures({"run": run})


def test_one_doc_has_no_interval_and_nan_is_a_dash() -> None:
    run = made("vanilla", tasks=QUICK, n=1)
    for figure in figures({"run": run}):
        assert "nan" not in figure.svg
        assert all("nan" not in cell for row in figure.rows for cell in row)
    (row,) = (r for r in table(figures({"run": run})[1]) if r["run"] == "run")
    assert (row["low"], row["high"], row["docs"]) == ("–", "–", "1")
    lost = made("vanilla", tasks=(OVERTON,))
    for sample in lost.samples[OVERTON]:
        sample["coverage"] = math.nan
    figure = figures({"run": lost})[1]
    assert "–" in texts(figure.svg)
    assert "no value" in figure.alt
    unscored = figures({"run": judged(made("vanilla", tasks=()), "uu")})[0]
    assert "no pair could be scored" in texts(unscored.svg)


def test_runs_over_other_docs_have_their_own_baselines() -> None:
    two = {
        "a": made("vanilla", n=8, tasks=(MORALCHOICE,)),
        "b": made("moe", n=5, tasks=(MORALCHOICE,)),
    }
    overview = figures(two)[0]
    assert "Runs differ in their docs" in overview.caption
    assert texts(overview.svg).count("baselines") == 2
    same = figures({"a": two["a"], "b": made("moe", 1, n=8, tasks=(MORALCHOICE,))})[0]
    assert "Runs differ" not in same.caption
    assert texts(same.svg).count("baselines") == 1


def test_names_tell_runs_apart() -> None:
    tasks = (OVERTON,)
    runs = {
        "1": made("vanilla", 1, "X", tasks=tasks), "2": made("modular_pluralism", 2, "X", "news", tasks=tasks),
        "3": made("modular_pluralism", 3, "X", "culture", tasks=tasks), "4": made("vanilla", 4, "Y", tasks=tasks),
        "5": made("moe", 5, "Y", "news", tasks=tasks), "6": made("moe", 6, "Y", "news", tasks=tasks),
    }  # fmt: skip
    figure = figures(runs)[1]
    shown = texts(figure.svg)
    for name in ("X", "Y", "modular_pluralism, news", "modular_pluralism, culture", "5", "6"):
        assert name in shown
    assert shown.count("vanilla") == 2
    assert (
        shown.index("X")
        < shown.index("modular_pluralism, news")
        < shown.index("Y")
        < shown.index("5")
    )
    assert re.search(r"best [\w, ]+ on [XY] 0\.", figure.alt)


def test_the_alternative_text_has_the_message(found: dict[str, Figure]) -> None:
    rows = [r for r in table(found["figure2"]) if not r["run"].startswith("(")]
    best = max(rows, key=lambda r: float(r["value"]))
    name = {"a": "vanilla", "b": "prompting"}.get(best["run"], "modular_pluralism")
    assert f"best {name}" in found["figure2"].alt
    assert best["value"] in found["figure2"].alt
    same = {
        label: made(name, 1, tasks=(OPINIONQA,), n=24)
        for label, name in (("a", "vanilla"), ("b", "moe"))
    }
    groups = next(f for f in figures(same) if f.name == "groups")
    assert "best in" not in groups.alt
    n = len({r["category"] for r in table(groups)})
    assert f"all runs equal in {n}" in groups.alt if n > 6 else groups.alt.count("all runs") == n


def test_many_runs_have_a_row_and_a_style_each() -> None:
    runs = {f"run {i}": made("vanilla", i, tasks=(OVERTON,), n=3) for i in range(12)}
    figure = figures(runs)[1]
    assert {f"run {i}" for i in range(12)} <= set(texts(figure.svg))
    assert all(f"--c{i}," in figure.svg for i in range(8))


# ---------------------------------------------------------------------- as SVG and files


def test_inline_svgs_can_stand_in_one_page(found: dict[str, Figure]) -> None:
    ids: list[str] = []
    for name, figure in found.items():
        root = ElementTree.fromstring(figure.svg)
        own = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
        assert all(i.startswith(f"{name}-") for i in own)
        ids += own
        used = re.findall(r'(?:href="|url\()#([^")]+)', figure.svg)
        assert set(used) <= set(own)
        assert "viewBox" in root.attrib
        assert not {"width", "height"} & set(root.attrib)
        assert root.attrib["role"] == "img"
        labels = dict(zip(root.attrib["aria-labelledby"].split(), ("title", "alt"), strict=True))
        told = {e.attrib["id"]: e.text for e in root if e.tag.endswith(("}title", "}desc"))}
        assert told == {i: getattr(figure, field) for i, field in labels.items()}
        assert not [
            e for e in root.iter() if e.tag.endswith(("}style", "}metadata", "}script", "}image"))
        ]
    assert len(ids) == len(set(ids))


def test_pages_choose_colours_and_font(found: dict[str, Figure]) -> None:
    for figure in found.values():
        rest = re.sub(r"var\(--[a-z0-9]+, (#[0-9a-f]{6}|transparent)\)", "", figure.svg)
        assert not re.search(r"#[0-9a-f]{6}\b", rest)
        assert not re.search(r"(?:fill|stroke): (?!none|$|;|url)[a-z#]", rest)
        assert "DejaVu" not in figure.svg
    assert set(re.findall(r"--[a-z0-9]+(?=:)", css(dark=True))) == {
        name for name, *_ in VARIABLES.values()
    }


HOSTILE = "</title><script>alert(1)</script>\"'&$x^2$ \x00\u202e\ud800 #222222"


def test_labels_are_text_and_nothing_else() -> None:
    runs = {
        HOSTILE: made("vanilla", 1, llm=HOSTILE, tasks=QUICK),
        f"{HOSTILE} 2": judged(made("vanilla", 2, llm=HOSTILE, tasks=QUICK), "wl", HOSTILE),
        "other": made(HOSTILE, 3, llm="x" * 300, tasks=QUICK),
    }
    for figure in figures(runs):
        root = ElementTree.fromstring(figure.svg)
        assert not [e for e in root.iter() if e.tag.endswith("script")]
        told = "".join(
            [figure.title, figure.caption, figure.alt, *(c for row in figure.rows for c in row)]
        )
        assert not re.search("[\x00\u202e\ud800]", told + figure.svg)
        figure.svg.encode()
    shown = texts(
        figures({HOSTILE: runs[HOSTILE], "x": made("vanilla", 2, llm=HOSTILE, tasks=(OVERTON,))})[
            1
        ].svg
    )
    assert any(text.startswith("</title><scr") and text.endswith("#222222") for text in shown)


def test_figures_are_the_same_every_time(
    runs: dict[str, Run], found: dict[str, Figure], tmp_path: Path
) -> None:
    again = {figure.name: figure for figure in figures(runs)}
    assert again == found
    assert all(figure.svg == found[name].svg for name, figure in again.items())
    for suffix in (".svg", ".pdf", ".png"):
        paths = [tmp_path / f"{i}{suffix}" for i in range(2)]
        for path, figure in zip(paths, (found["figure3"], again["figure3"]), strict=True):
            save(figure, path)
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_files_stand_alone(found: dict[str, Figure], tmp_path: Path) -> None:
    save(found["figure4"], tmp_path / "f.svg")
    saved = (tmp_path / "f.svg").read_text(encoding="utf-8")
    shown = texts(saved)
    assert found["figure4"].title in " ".join(shown)
    assert "var(" not in saved
    assert "#0072b2" in saved
    words = found["figure4"].caption.split()
    assert set(words) <= set(" ".join(shown).split())
    with pytest.raises(PluralismError, match=r"\.svg, \.pdf or \.png"):
        save(found["figure4"], tmp_path / "f.gif")
    with pytest.raises(PluralismError, match="cannot be written"):
        save(found["figure4"], tmp_path / "f.svg" / "f.png")


def test_text_is_made_to_fit() -> None:
    assert short("modular_pluralism", 17) == "modular_pluralism"
    assert short("modular_pluralism_of_news", 11) == "modul…_news"
    assert len(short("中文" * 40, 11)) <= 6
    assert short("a\n\tb\x07 c", 20) == "a b c"
    assert lines_of("one two three", 7) == ["one two", "three"]
    assert lines_of("one two three four", 7, most=2) == ["one two", "three …"]
    assert lines_of("x" * 10, 4) == ["xxxx", "xxxx", "xx"]
    assert lines_of("", 5) == []
