"""A run's page, in a real browser. Each test also asserts that nothing was loaded and no error occurred."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.data import Problem
from arbiter.exports.html import write_page
from arbiter.log.run import Run

pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright (the extra dev)")
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow

RecordRun = Callable[..., Run]
Look = Callable[..., None]

HOSTILE = (
    "</script><script>document.title = 'taken'</script><!-- <img src=x onerror=\"document.title='taken'\"> & @@data@@"
)


def ids(view: Page) -> list[str]:
    return view.locator(".row .id").all_text_contents()


def test_the_figures_of_the_run_are_on_top(troubled_run: Run, look: Look) -> None:
    def see(view: Page) -> None:
        figures = view.locator("#figures").inner_text()
        assert re.search(r"problems\s+6", figures)
        assert re.search(r"accuracy, 23\.1% to 88\.2%\s+60\.0%", figures)
        assert re.search(r"acceptance rate\s+90\.0%", figures)
        assert re.search(r"failed\s+1", figures)
        assert "router, τ = 0.5" in view.locator("#about").inner_text()

    look(troubled_run, see)


def test_a_problem_shows_who_wrote_each_step_and_why(plain_run: Run, look: Look) -> None:
    def see(view: Page) -> None:
        first, second = view.locator(".step").all()
        expect(first.locator(".who")).to_have_text("target")
        expect(first.locator(".head")).to_contain_text("escalated, router 0.750 > 0.5")
        expect(first).to_contain_text("the draft wrote the same step")
        expect(second.locator(".who")).to_have_text("draft")
        expect(second.locator(".head")).to_contain_text("kept, router 0.250 ≤ 0.5")
        expect(second.locator(".text")).to_have_text("\\boxed{1}")
        expect(first.locator(".cost")).to_contain_text("4 tokens")

    look(plain_run, see, address="#problem=1")


def test_a_problem_shows_its_requests_by_actor_and_as_a_table(plain_run: Run, look: Look) -> None:
    def see(view: Page) -> None:
        assert view.locator(".lane > span").all_inner_texts() == ["drafter", "verifier", "escalator"]
        assert view.locator(".lanes .call").count() == 5
        view.get_by_text("All 5 requests").click()
        expect(view.locator(".calls tbody tr")).to_have_count(5)

    look(plain_run, see, address="#problem=1")


def test_a_failure_is_shown_with_its_error_and_its_request(troubled_run: Run, look: Look) -> None:
    def see(view: Page) -> None:
        expect(view.locator(".row", has_text="broken").locator(".state")).to_contain_text("failed")
        expect(view.locator(".row", has_text="broken").locator("path.failed")).to_have_count(1)
        view.locator(".row", has_text="broken").click()
        expect(view.locator(".alert")).to_contain_text("drafter, step 2: BackendError: the model fell over")
        expect(view.locator(".call.failed")).to_have_count(1)

    look(troubled_run, see)


def test_a_request_that_was_cancelled_with_its_problem_is_shown(troubled_run: Run, look: Look) -> None:
    def see(view: Page) -> None:
        expect(view.locator("#detail-title")).to_contain_text("wrong, deadline")
        expect(view.locator(".call.cancelled")).to_have_count(1)

    look(troubled_run, see, address="#problem=stuck")


def test_samples_of_a_problem_are_told_apart(record: RecordRun, look: Look) -> None:
    run = record([Problem("p", "1", "1")], sampling={"temperature": 0.5, "samples": 2})

    def see(view: Page) -> None:
        assert sorted(ids(view)) == ["p", "p #1"]
        expect(view.locator("#detail-title")).to_contain_text("p #1")

    look(run, see, address="#problem=p&sample=1")


def test_what_models_and_data_sets_write_is_text_and_nothing_else(record: RecordRun, look: Look) -> None:
    run = record([Problem(HOSTILE, HOSTILE, HOSTILE)])

    def see(view: Page) -> None:
        view.locator(".row").click()
        assert view.locator(".question").inner_text() == HOSTILE
        assert HOSTILE in view.locator(".step .text").first.inner_text()
        assert view.locator("script").count() == 2
        assert view.locator("img").count() == 0
        assert view.title() == "run – Arbiter run"

    look(run, see)


@pytest.mark.parametrize("detail", ["redacted", "decisions"])
def test_a_run_recorded_without_texts_shows_all_the_rest(record: RecordRun, look: Look, detail: str) -> None:
    run = record([Problem("1", "a secret", "1"), Problem("broken", "a secret", "1")], log={"record": detail})

    def see(view: Page) -> None:
        expect(view.locator("#about")).to_contain_text(f"recorded as “{detail}”")
        view.locator(".row").first.click()
        assert "secret" not in view.locator("body").inner_text()
        expect(view.locator(".question")).to_have_text("question of 8 characters, omitted from the log")
        assert view.locator(".who").all_inner_texts() == ["target", "draft"]
        assert view.locator(".lanes .call").count() == 5
        view.keyboard.press("j")
        expect(view.locator(".alert")).to_contain_text("BackendError")

    look(run, see)


def test_a_run_without_problems_says_so(record: RecordRun, look: Look) -> None:
    def see(view: Page) -> None:
        expect(view.locator("#none")).to_be_visible()

    look(record([]), see)


@pytest.mark.parametrize("run_type", ["draft", "target", "random", "rsd", "oracle", "generate"])
def test_every_type_of_run_has_a_page(record: RecordRun, look: Look, run_type: str) -> None:
    run = record([Problem("1", "1", "1")], run_type=run_type, audit=1.0)
    author = "target" if run_type in ("target", "rsd") else "draft"

    def see(view: Page) -> None:
        assert view.locator(".step").count() == 2
        if run_type != "random":
            assert view.locator(".who").first.inner_text() == author

    look(run, see, address="#problem=1")


def test_the_page_is_the_same_each_time_it_is_written(troubled_run: Run, tmp_path: Path) -> None:
    for name in "ab":
        write_page(troubled_run, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nothing_but_the_pages_own_script_and_style_may_run(plain_run: Run, tmp_path: Path) -> None:
    write_page(plain_run, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "innerHTML" not in text
