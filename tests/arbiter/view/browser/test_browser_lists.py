"""The lists of the viewer's page: runs and problems, by keys, filters, addresses, and while they grow."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from arbiter.config.run_tables import RunType
from arbiter.log.checksums import as_document
from arbiter.log.reader import LOG
from arbiter.runs.documents import read_document
from tests.arbiter.view.conftest import numbered

pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright (the extra dev)")
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser

Look = Callable[..., None]
Record = Callable[..., Path]

LISTED = ".tabulator-row"


def current(view: Page) -> Locator:
    return view.locator(f"{LISTED}.current")


def ids(view: Page) -> Locator:
    return view.locator(f"{LISTED} .ends")


def names(view: Page) -> Locator:
    return view.locator(f"{LISTED} .name")


def test_the_list_of_runs_is_sorted_filtered_and_opened_by_keys(some_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        expect(names(view)).to_have_count(3)
        view.get_by_role("button", name="Accuracy").click()
        expect(view).to_have_url(re.compile("sort=-accuracy"))
        shown = [
            float(text.split()[0])
            for text in view.locator("[tabulator-field=accuracy] .two > span:first-child").all_inner_texts()
        ]
        assert shown == sorted(shown, reverse=True)
        view.keyboard.press("/")
        view.keyboard.type("rsd")
        expect(names(view)).to_have_text(["rsd"])
        expect(view.get_by_text("1 of 3 runs")).to_be_visible()
        view.keyboard.press("Escape")
        expect(names(view)).to_have_count(3)
        view.keyboard.press("Escape")
        view.keyboard.press("j")
        expect(current(view)).to_have_count(1)
        opened = current(view).locator(".name").inner_text()
        view.keyboard.press("Enter")
        expect(view.get_by_role("heading", level=1)).to_have_text(opened)

    look(some_runs, see)


def test_each_data_set_and_pair_has_a_plot_whose_points_open_runs(some_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        expect(view.locator(".plot")).to_have_count(1)
        expect(view.locator(".plot a")).to_have_count(3)
        view.locator(".plot a[aria-label^='rsd:']").focus()
        view.keyboard.press("Enter")
        expect(view.get_by_role("heading", level=1)).to_have_text("rsd")

    look(some_runs, see)


def test_a_folder_without_runs_says_how_to_make_one(tmp_path: Path, look: Look) -> None:
    def see(view: Page) -> None:
        expect(view.get_by_role("heading", name="No runs yet")).to_be_visible()
        expect(view.locator("pre")).to_contain_text("arbiter bench pocket")

    look(tmp_path, see)


def test_a_damaged_run_is_said_to_be_damaged_and_the_others_stay(
    record: Record, tmp_path: Path, look: Look, problems: Any
) -> None:
    record(tmp_path / "whole", problems(2))
    log = record(tmp_path / "torn", problems(2)) / "events.jsonl"
    log.write_text("nothing of a log\n" + log.read_text())

    def see(view: Page) -> None:
        torn = view.locator(LISTED).filter(has_text="torn")
        expect(torn).to_contain_text("damaged")
        view.get_by_role("link", name="torn", exact=True).click()
        expect(view.get_by_role("alert")).to_contain_text("events.jsonl")
        view.go_back()
        view.get_by_role("link", name="whole", exact=True).click()
        expect(ids(view)).to_have_count(2)

    look(tmp_path, see, refused=True)


def test_keys_move_through_problems_and_leave_them(some_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        expect(ids(view)).to_have_count(12)
        for key, at in [
            ("j", "p0"),
            ("ArrowDown", "p1"),
            ("k", "p0"),
            ("End", "p11"),
            ("ArrowUp", "p10"),
            ("Home", "p0"),
        ]:
            view.keyboard.press(key)
            expect(current(view).locator(".ends")).to_have_text(at)
        view.keyboard.press("j")
        view.keyboard.press("Enter")
        expect(view.get_by_role("heading", level=1)).to_contain_text("p1")
        view.keyboard.press("n")
        expect(view.get_by_role("heading", level=1)).to_contain_text("p2")
        view.keyboard.press("Escape")
        expect(ids(view)).to_have_count(12)
        view.keyboard.press("?")
        expect(view.get_by_role("dialog")).to_contain_text("next problem")
        view.keyboard.press("Escape")
        expect(view.get_by_role("dialog")).to_be_hidden()
        view.keyboard.press("Escape")
        expect(view.get_by_role("heading", level=1)).to_have_text("Runs")

    look(some_runs, see, at="/run?run={router}")


def test_an_expression_chooses_problems_and_an_error_is_marked_at_its_place(some_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        expect(ids(view)).to_have_count(12)
        view.keyboard.press("/")
        view.keyboard.type("wrong and escalatd > 3")
        expect(view.locator(".filter-error mark")).to_have_text("escalatd")
        expect(view.locator(".filter-error")).to_contain_text("position 10")
        expect(view.get_by_label("Filter by an expression")).to_have_attribute("aria-invalid", "true")
        view.get_by_label("Filter by an expression").fill("right and escalated == 3")
        expect(view.locator(".filter-error")).to_be_hidden()
        expect(view.locator(".found")).to_have_text(re.compile(r"^\d+ of 12 problems$"))
        view.get_by_role("button", name="Wrong").click()
        expect(view.get_by_label("Filter by an expression")).to_have_value("wrong")
        view.get_by_label("Filter by an expression").fill("steps > 99")
        expect(view.get_by_text("No problem matches.")).to_be_visible()
        view.get_by_role("button", name="Show all problems").click()
        expect(ids(view)).to_have_count(12)

    look(some_runs, see, at="/run?run={router}", refused=True)


def test_the_address_holds_filter_order_and_row_through_reload_and_back(some_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        view.get_by_label("Filter by an expression").fill("escalated > 0")
        expect(view).to_have_url(re.compile("filter=escalated"))
        view.get_by_role("button", name="Escalated", exact=True).last.click()
        expect(view).to_have_url(re.compile("sort=-escalated"))
        expect(view.locator(".found")).to_contain_text("of 12")
        found = view.locator(".found").inner_text()
        view.keyboard.press("j")
        view.keyboard.press("j")
        chosen = current(view).locator(".ends").inner_text()
        view.reload()
        expect(view.locator(".found")).to_have_text(found)
        expect(current(view).locator(".ends")).to_have_text(chosen)
        view.keyboard.press("Enter")
        expect(view.get_by_role("heading", level=1)).to_contain_text(chosen)
        view.go_back()
        expect(current(view).locator(".ends")).to_have_text(chosen)
        expect(view.get_by_label("Filter by an expression")).to_have_value("escalated > 0")

    look(some_runs, see, at="/run?run={router}")


def test_a_long_run_has_few_rows_in_the_page_wherever_it_is_scrolled(long_run: Path, look: Look) -> None:
    def see(view: Page) -> None:
        expect(view.locator(".found")).to_have_text("5,000 problems")
        view.keyboard.press("End")
        expect(current(view).locator(".ends")).to_have_text("p4999")
        rows = view.locator(".tabulator-tableholder")
        for share in (0.0, 0.3, 0.6, 0.9):
            rows.evaluate("(holder, share) => { holder.scrollTop = share * holder.scrollHeight }", share)
            expect(ids(view).filter(has_text=re.compile(f"^p{int(share * 5000) + 5}$"))).to_be_visible()
            assert view.locator(LISTED).count() < 80

    look(long_run, see, at="/run?run={long}")


def test_a_growing_run_keeps_the_place_of_its_reader(growing: Any, look: Look) -> None:
    def see(view: Page) -> None:
        expect(view.locator("#link")).to_have_text("live")
        expect(view.locator(".found")).to_contain_text("problems")
        before = int(view.locator(".found").inner_text().split()[0])
        for _ in range(3):
            view.keyboard.press("j")
        expect(current(view).locator(".ends")).to_have_text("p2")
        growing.go_on()
        expect(view.locator(".found")).not_to_have_text(f"{before} problems")
        expect(current(view).locator(".ends")).to_have_text("p2")

    look(growing.folder, see, at="/run?run={growing}")


def test_each_type_of_run_has_a_shape_of_its_own(record: Record, tmp_path: Path, look: Look) -> None:
    run, types = record(tmp_path / "run", numbered(2), run_type="router"), get_args(RunType)
    summary = read_document(run / "summary.json", dict[str, Any], "")
    assert summary is not None
    for run_type in types:
        folder = tmp_path / f"as-{run_type}"
        folder.mkdir()
        (folder / "results.jsonl").write_bytes((run / "results.jsonl").read_bytes())
        (folder / "summary.json").write_bytes(as_document(msgspec.json.encode({**summary, "run_type": run_type})))

    def see(view: Page) -> None:
        expect(view.locator(".legend li")).to_have_count(len(types))
        marks = view.locator(".legend .mark").evaluate_all("(all) => all.map((one) => one.getAttribute('d'))")
        assert len({*marks}) == len(types)

    look(tmp_path, see)


@pytest.mark.parametrize("view_name", ["run", "timeline", "what-if", "settings"])
def test_a_folder_with_results_alone_is_said_to_have_no_log(
    record: Record, tmp_path: Path, look: Look, view_name: str
) -> None:
    record(tmp_path / "results", numbered(2), run_type="router")
    (tmp_path / "results" / LOG).unlink()

    def see(view: Page) -> None:
        expect(view.get_by_role("alert")).to_contain_text("There is no log")
        expect(view.locator("#crumbs")).to_contain_text("results")

    look(tmp_path, see, at=f"/{view_name}?run={{results}}")


def test_a_log_that_ends_too_early_is_said_above_its_problems(record: Record, tmp_path: Path, look: Look) -> None:
    log = record(tmp_path / "cut", numbered(6), run_type="router") / LOG
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[: len(lines) // 2]))

    def see(view: Page) -> None:
        expect(view.get_by_role("alert")).to_contain_text("the log ends too early")
        expect(view.locator(".tabulator-row")).not_to_have_count(0)

    look(tmp_path, see, at="/run?run={cut}")


def test_what_failed_is_not_named_after_the_view_before(some_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        expect(view.locator("#crumbs")).to_contain_text("router")
        view.evaluate("location.hash = '#/run?run=0000000000000000'")
        expect(view.get_by_role("heading", name="This run is gone")).to_be_visible()
        expect(view.locator("#crumbs")).not_to_contain_text("router")

    look(some_runs, see, at="/run?run={router}", refused=True)


def test_a_blank_id_has_a_name_that_can_be_seen(record: Record, tmp_path: Path, look: Look) -> None:
    record(tmp_path / "blank", numbered(0, " "), run_type="router")

    def see(view: Page) -> None:
        expect(view.locator(".tabulator-row")).to_contain_text("(blank id)")

    look(tmp_path, see, at="/run?run={blank}")


def test_titles_of_columns_are_not_cut(some_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        titles = view.locator(".tabulator-col-title")
        expect(titles.first).to_be_visible()
        cut = "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
        assert titles.evaluate_all(cut) == []

    look(some_runs, see, at="/run?run={router}")
