"""Using a run's page: by keyboard, on a phone, in dark mode, with many problems."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.data import Problem
from arbiter.exports.contents import contents
from arbiter.exports.html import page
from arbiter.log.run import Run
from tests.browser import CONTRAST

pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright (the extra dev)")
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

RecordRun = Callable[..., Run]
Look = Callable[..., None]

DESKTOP, PHONE = (1280, 800), (360, 740)


def ids(view: Page) -> list[str]:
    return view.locator(".row .id").all_text_contents()


def focused(view: Page) -> str:
    return view.evaluate("document.activeElement.querySelector('.id')?.textContent ?? document.activeElement.id")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("All", ["0", "1", "2", "3", "broken", "stuck"]),
        ("Wrong", ["3", "stuck"]),
        ("Escalated", ["1"]),
        ("Failed", ["broken"]),
        ("Unfinished", ["stuck"]),
    ],
)
def test_a_filter_shows_the_problems_that_it_names(troubled_run: Run, look: Look, name: str, shown: list[str]) -> None:
    def see(view: Page) -> None:
        button = view.get_by_role("button", name=re.compile(f"^{name}"))
        assert str(len(shown)) in button.inner_text()
        button.click()
        assert ids(view) == shown
        expect(button).to_have_attribute("aria-pressed", "true")

    look(troubled_run, see)


def test_the_list_has_the_given_and_the_expected_answer_of_each_graded_problem(troubled_run: Run, look: Look) -> None:
    def see(view: Page) -> None:
        shown = dict(zip(ids(view), (row.inner_text() for row in view.locator(".row").all()), strict=True))
        assert "answer 2, expected 2" in shown["2"]
        assert "answer 3, expected something else" in shown["3"]
        assert "answer" not in shown["broken"]

    look(troubled_run, see)


def test_the_slowest_can_come_first(troubled_run: Run, look: Look) -> None:
    def see(view: Page) -> None:
        view.get_by_role("button", name="Slowest first").click()
        assert (ids(view)[0], len(ids(view))) == ("stuck", 6)

    look(troubled_run, see)


def test_the_search_finds_questions_steps_and_errors(troubled_run: Run, look: Look) -> None:
    def see(view: Page) -> None:
        for text, shown in [("STUCK", ["stuck"]), ("fell over", ["broken"]), ("boxed{2}", ["2"]), ("no such", [])]:
            view.get_by_role("searchbox").fill(text)
            assert ids(view) == shown
        expect(view.locator("#none")).to_be_visible()
        view.get_by_role("button", name="Show all").click()
        assert len(ids(view)) == 6

    look(troubled_run, see)


def test_the_page_is_used_by_keys_alone(troubled_run: Run, look: Look) -> None:
    def see(view: Page) -> None:
        view.keyboard.press("Tab")
        assert focused(view) == "skip"
        view.keyboard.press("Enter")
        assert focused(view) == "0"
        for key, row in [("ArrowDown", "1"), ("j", "2"), ("k", "1"), ("ArrowUp", "0"), ("End", "stuck"), ("Home", "0")]:
            view.keyboard.press(key)
            assert focused(view) == row
        view.keyboard.press("j")
        view.keyboard.press("Enter")
        assert focused(view) == "detail-title"
        expect(view.locator("#detail-title")).to_contain_text("1")
        view.keyboard.press("Escape")
        assert focused(view) == "1"
        expect(view.locator("#detail")).to_be_hidden()
        view.keyboard.press("/")
        assert focused(view) == "search"
        view.keyboard.type("jk/")
        assert view.get_by_role("searchbox").input_value() == "jk/"
        view.keyboard.press("Escape")
        assert view.get_by_role("searchbox").input_value() == ""

    look(troubled_run, see)


def test_tab_goes_through_every_control_and_its_focus_is_seen(plain_run: Run, look: Look) -> None:
    def see(view: Page) -> None:
        seen: list[str] = []
        for _ in range(9):
            view.keyboard.press("Tab")
            seen.append(view.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))
            assert view.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        assert seen[1] == "search"
        assert [name.rstrip("0123456789") for name in seen[2:8]] == [
            "All", "Wrong", "Escalated", "Failed", "Unfinished", "Slowest first",
        ]  # fmt: skip
        assert seen[8].startswith("0")

    look(plain_run, see)


def test_the_address_remembers_problem_filter_order_and_search(troubled_run: Run, look: Look) -> None:
    def choose(view: Page) -> None:
        view.get_by_role("button", name="Wrong").click()
        view.get_by_role("button", name="Slowest first").click()
        view.get_by_role("searchbox").fill("stuck")
        view.locator(".row").first.click()
        address = view.evaluate("location.hash")
        assert address == "#filter=wrong&sort=slowest&search=stuck&problem=stuck"
        view.reload()
        assert ids(view) == ["stuck"]
        expect(view.locator("#detail-title")).to_contain_text("stuck")
        view.evaluate("location.hash = '#problem=0'")
        expect(view.locator("#detail-title")).to_contain_text("right")
        assert len(ids(view)) == 6

    look(troubled_run, choose)


@pytest.mark.parametrize("address", ["", "#problem=broken"])
@pytest.mark.parametrize("size", [PHONE, (768, 900), DESKTOP])
def test_the_page_never_scrolls_sideways(troubled_run: Run, look: Look, size: tuple[int, int], address: str) -> None:
    def see(view: Page) -> None:
        if address:
            view.locator(".calls summary").click()
        assert view.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert view.evaluate(
            "[...document.querySelectorAll('main, section, header')].every(e => e.scrollWidth <= e.clientWidth + 1)"
        )

    look(troubled_run, see, size=size, address=address)


def test_long_words_do_not_widen_a_phones_page(record: RecordRun, look: Look) -> None:
    run = record([Problem("long" * 40, "word" * 200, "1")])

    def see(view: Page) -> None:
        assert view.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        view.locator(".row").click()
        assert view.evaluate("document.documentElement.scrollWidth") <= PHONE[0]

    look(run, see, size=PHONE)


def test_on_a_phone_a_problem_takes_the_page_and_gives_it_back(plain_run: Run, look: Look) -> None:
    def see(view: Page) -> None:
        view.locator(".row").nth(1).click()
        expect(view.locator(".browse")).to_be_hidden()
        view.get_by_role("button", name="Close").click()
        expect(view.locator(".row").nth(1)).to_be_focused()

    look(plain_run, see, size=PHONE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ["", "#problem=broken", "#problem=1"])
def test_texts_have_the_contrast_of_level_aa(troubled_run: Run, look: Look, scheme: str, address: str) -> None:
    def see(view: Page) -> None:
        view.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")
        assert view.evaluate(CONTRAST, "script, style, noscript, .skip") == []

    look(troubled_run, see, scheme=scheme, address=address)


def test_dark_and_light_follow_the_readers_choice(plain_run: Run, look: Look) -> None:
    backs: list[str] = []

    def see(view: Page) -> None:
        backs.append(view.evaluate("getComputedStyle(document.documentElement).backgroundColor"))

    for scheme in ("light", "dark"):
        look(plain_run, see, scheme=scheme)
    assert backs == ["rgb(247, 247, 245)", "rgb(18, 21, 24)"]


def test_a_thousand_problems_open_at_once(look_at: Look, plain_run: Run, tmp_path: Path) -> None:
    shown = contents(plain_run)
    [first, *_] = shown["problems"]
    many = [{**first, "id": f"p{n}", "steps": first["steps"] * 6} for n in range(1000)]
    (tmp_path / "page.html").write_text(page({**shown, "problems": many}), encoding="utf-8")

    def see(view: Page) -> None:
        view.set_default_timeout(30_000)
        expect(view.locator("#count")).to_have_text("1,000 problems")
        view.locator("body").press("End")
        assert focused(view) == "p999"
        view.get_by_role("searchbox").fill("p77")
        assert len(ids(view)) == 11

    look_at(tmp_path / "page.html", see)
