"""The page of a run with many problems: a folder whose parts the page loads, in a real browser."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.data import Problem
from arbiter.exports.contents import contents
from arbiter.exports.html import IN_ONE_FILE, write_page
from arbiter.log.index import LEAST
from arbiter.log.run import Run
from arbiter.protocols.errors import ReportError, RunError

pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright (the extra dev)")
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

RecordRun = Callable[..., Run]
Look = Callable[..., None]

HOSTILE = "*/</script><script>document.title = 'taken'</script><!-- \u2028'\"`${document.title='taken'}\\"


@pytest.fixture(scope="module")
def large_run(record: RecordRun) -> Run:
    """A run of 600 problems. The last ones to start are the hostile one and the last one."""
    numbered = [Problem(f"p{n:03}", f"{n} of many", f"{n} of many") for n in range(598)]
    return record([*numbered, Problem(HOSTILE, HOSTILE, HOSTILE), Problem("last", "the last one", "x")])


@pytest.fixture(scope="module")
def large_page(large_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(large_run, tmp_path_factory.mktemp("page") / "many.html")


def test_a_page_of_many_problems_is_a_folder_with_parts(large_page: Path) -> None:
    assert (large_page.parent.name, large_page.name) == ("many", "index.html")
    assert len([*large_page.parent.glob("part-*.js")]) == 6


def test_the_list_has_answers_of_parts_that_are_not_loaded(large_page: Path, look_at: Look) -> None:
    def see(view: Page) -> None:
        expect(view.locator(".row .answers").first).to_have_text("answer 0 of many, expected 0 of many")

    look_at(large_page, see)


def test_a_problem_of_the_last_part_shows_its_transcript(large_page: Path, look_at: Look) -> None:
    def see(view: Page) -> None:
        expect(view.locator("#count")).to_have_text("600 problems")
        view.locator("body").press("End")
        view.keyboard.press("Enter")
        expect(view.locator(".step .text").first).to_contain_text("First, ")
        expect(view.locator(".step")).to_have_count(2)
        expect(view.locator("#detail-title")).to_be_focused()

    look_at(large_page, see)


def test_the_search_finds_texts_in_parts_that_are_not_loaded(large_page: Path, look_at: Look) -> None:
    def see(view: Page) -> None:
        view.get_by_role("searchbox").fill("boxed{599 of")
        expect(view.locator("#none")).to_be_visible()
        view.get_by_role("searchbox").fill("boxed{the last one")
        expect(view.locator(".row .id")).to_have_text(["last"])

    look_at(large_page, see)


def test_texts_in_parts_are_text_and_nothing_else(large_page: Path, look_at: Look) -> None:
    def see(view: Page) -> None:
        view.get_by_role("searchbox").fill("taken")
        view.locator(".row").click()
        assert view.locator(".question .text").text_content() == HOSTILE
        assert HOSTILE in (view.locator(".step .text").first.text_content() or "")
        assert view.locator("script").count() == 2
        assert view.title() == "run – Arbiter run"

    look_at(large_page, see)
    for part in large_page.parent.glob("part-*.js"):
        text = part.read_text(encoding="utf-8")
        assert not {"<", "\u2028"} & {*text}
        number, _, problems = text.removeprefix("arbiterPart(").removesuffix(");\n").partition(", ")
        assert part.name.startswith(f"part-{number}-")
        assert len(json.loads(problems)) == 100


def test_a_part_that_is_missing_is_named(large_run: Run, look_at: Look, tmp_path: Path) -> None:
    index = write_page(large_run, tmp_path / "many.html")
    [last] = index.parent.glob("part-5-*.js")
    text = last.read_text(encoding="utf-8")
    last.write_text(text.replace("arbiterPart(", "void (", 1), encoding="utf-8")

    def see(view: Page) -> None:
        expect(view.locator("#detail")).to_contain_text(f"{last.name} is missing")

    look_at(index, see, address="#problem=last")


def test_an_export_removes_the_parts_of_an_earlier_one(large_run: Run, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "part-9-0123456789abcdef.js").touch()
    (tmp_path / "many.html").touch()
    write_page(large_run, tmp_path / "many.html")
    names = {path.name for path in (tmp_path / "many").iterdir()}
    assert not any(name.startswith("part-9") for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["many"]


@pytest.mark.parametrize("other", ["events.jsonl", "part-one-two.js"])
def test_a_page_is_not_written_into_a_folder_with_other_files(large_run: Run, tmp_path: Path, other: str) -> None:
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / other).touch()
    with pytest.raises(ReportError, match=f"other files \\({other}\\): name another file with --html"):
        write_page(large_run, tmp_path / "many.html")
    assert [path.name for path in (tmp_path / "many").iterdir()] == [other]


def test_only_the_suffix_html_is_left_out_of_the_folders_name(large_run: Run, tmp_path: Path) -> None:
    assert write_page(large_run, tmp_path / "run.v2") == tmp_path / "run.v2" / "index.html"


def test_the_page_of_chosen_problems_reads_only_their_lines(large_run: Run, tmp_path: Path) -> None:
    assert large_run.path.stat().st_size > LEAST
    whole = {problem["id"]: problem for problem in contents(large_run)["problems"]}
    copy = tmp_path / "events.jsonl"
    shutil.copy2(large_run.path, copy)
    run = Run.open(copy)
    contents(run, ["last"])  # makes the index
    before = copy.stat()
    copy.write_bytes(copy.read_bytes().replace(b'"problem":"p007"', b'"problem":"p008"', 1))
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk does that damages a file
    found = contents(run, ["last", "p300"])
    assert {problem["id"]: problem for problem in found["problems"]} == {name: whole[name] for name in ("last", "p300")}
    assert found["figures"]["problems"] == 2
    with pytest.raises(RunError):
        contents(run)
    with pytest.raises(RunError, match="no problem 'p999'"):
        contents(run, ["p999"])
    assert write_page(run, tmp_path / "one.html", ["last"]) == tmp_path / "one.html"


def test_a_page_of_few_problems_is_one_file(record: RecordRun, tmp_path: Path) -> None:
    run = record([Problem(str(n), str(n), "1") for n in range(IN_ONE_FILE)])
    assert write_page(run, tmp_path / "few.html") == tmp_path / "few.html"
    assert [path.name for path in tmp_path.iterdir()] == ["few.html"]
