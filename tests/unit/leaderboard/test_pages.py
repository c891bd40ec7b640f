"""The leaderboard's pages."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pluralism_eval.errors import PluralismError
from pluralism_eval.leaderboard import board, pages, submit
from pluralism_eval.leaderboard.verify import Verdict, verify_each
from pluralism_eval.results import read_run
from tests.unit.leaderboard.runs import HOSTILE, call, make_run


class Tags(HTMLParser):
    """Counts tags and keeps attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_text_of_submissions_is_shown_and_never_markup(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["moralchoice"])
    made = submit.make(read_run(run), name=HOSTILE, by=HOSTILE, note=HOSTILE)
    folder = submit.write(made, tmp_path / "submissions")
    assert re.fullmatch(r"[a-z0-9-]+", folder.name)
    found = board.build(list(verify_each([folder])))
    page = pages.as_html(found, tmp_path)
    parsed = Tags(page)
    names = [tag for tag, _ in parsed.tags]
    assert names.count("script") == 1
    assert "img" not in names
    assert not any(key.startswith("on") or key == "style" for _, a in parsed.tags for key in a)
    links = [a["href"] for tag, a in parsed.tags if tag == "a"]
    assert links
    assert all(link == f"submissions/{folder.name}/" for link in links)
    assert "<img src=x onerror=alert(2)>" in parsed.text  # as text
    plain = pages.as_markdown(found, tmp_path)
    assert "<script" not in plain
    assert "[x](javascript" not in plain
    lines = [line for line in plain.splitlines() if line.startswith("|") and "alert" in line]
    header = next(line for line in plain.splitlines() if line.startswith("|"))
    assert len(re.findall(r"(?<!\\)\|", lines[0])) == header.count("|")


def test_the_pages_are_the_same_again_and_say_what_is_not_ranked(
    several: list[Verdict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, submissions = tmp_path / "results", several[0].folder.parent
    texts = []
    for _ in range(2):
        assert call("leaderboard", "--submissions", str(submissions), "--output", str(out)) == 0
        texts.append({p.name: p.read_text() for p in out.iterdir()})
    assert texts[0] == texts[1]
    assert set(texts[0]) == {"README.md", "leaderboard.html"}
    assert "6 submissions: 4 verified, 1 not verified, 1 rejected." in capsys.readouterr().out
    for text in texts[0].values():
        assert "samples are not included" in text
        assert re.search(r"jsd\.low: expected 0\.\d+, found 0\.5", text)
        assert "4 verified" in text
        assert str(tmp_path) not in text
    page = Tags(texts[0]["leaderboard.html"])
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    heads = [a for tag, a in page.tags if tag == "th" and a.get("scope") == "col"]
    rows = [a for tag, a in page.tags if tag == "th" and a.get("scope") == "row"]
    assert heads
    assert len(rows) > 38
    assert sum(tag == "caption" for tag, _ in page.tags) == 4


def test_a_folder_without_submissions(tmp_path: Path) -> None:
    with pytest.raises(PluralismError, match="is no folder; make a submission first"):
        call("leaderboard", "--submissions", str(tmp_path / "none"), "--output", str(tmp_path))
    (tmp_path / "none").mkdir()
    assert call("leaderboard", "--submissions", str(tmp_path / "none"), "--output", str(tmp_path)) == 0  # fmt: skip
    assert "0 submissions: 0 verified." in (tmp_path / "README.md").read_text()
