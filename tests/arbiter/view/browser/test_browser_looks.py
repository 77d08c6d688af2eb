"""How the viewer's page looks: any size, light and dark, readable, and hostile texts as texts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.arbiter.view.browser.conftest import DESKTOP, HOSTILE, PHONE
from tests.browser import CONTRAST

pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright (the extra dev)")
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

Look = Callable[..., None]

VIEWS = {
    "/": ".tabulator-row",
    "/run?run={kept}": ".tabulator-row",
    "/problem?run={escalated}&row=1": ".step",
    "/timeline?run={kept}": ".uplot",
    "/what-if?run={kept}": ".known",
    "/settings?run={kept}": ".file",
    "/compare?a={kept}&b={escalated}": ".tabulator-row",
    "/pair?a={kept}&b={escalated}&row=1": ".step",
    "/pair?a={kept}&b={escalated}&row=2": ".step",
}

UNNAMED = """() => [...document.querySelectorAll("a, button, input, summary, canvas, [role=img]")]
  .filter((e) => e.checkVisibility() && !e.closest("[aria-hidden=true]"))
  .filter((e) => !e.textContent.trim() && !e.getAttribute("aria-label") && !e.labels?.length
    && !e.querySelector("title")).map((e) => e.outerHTML.slice(0, 120))"""

WIDE = "document.documentElement.scrollWidth > innerWidth"


def settle(view: Page, shown: str) -> None:
    expect(view.locator(shown).first).to_be_visible()
    expect(view.locator(".loading")).to_have_count(0)
    view.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param(DESKTOP, "light", id="desktop-light"),
        pytest.param(PHONE, "dark", id="phone-dark"),
        pytest.param(DESKTOP, "dark", id="desktop-dark", marks=pytest.mark.nightly),
        pytest.param(PHONE, "light", id="phone-light", marks=pytest.mark.nightly),
    ],
)
@pytest.mark.parametrize("at", VIEWS)
def test_every_view_is_readable_named_and_fits(
    hostile_runs: Path, look: Look, at: str, size: tuple[int, int], scheme: str
) -> None:
    """With hostile and very long texts in every field. Scripts in them would write to the console."""

    def see(view: Page) -> None:
        settle(view, VIEWS[at])
        assert view.evaluate(CONTRAST, "noscript, svg, .skip, [aria-disabled=true]") == []
        assert view.evaluate(UNNAMED) == []
        assert not view.evaluate(WIDE)
        assert view.locator("main img, main script, main b").count() == 0

    look(hostile_runs, see, at=at, size=size, scheme=scheme)


def test_hostile_texts_are_shown_as_they_are(hostile_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        settle(view, ".step")
        expect(view.get_by_role("heading", level=1)).to_contain_text(HOSTILE)
        assert HOSTILE in str(view.locator(".question .text").text_content())
        assert HOSTILE in str(view.locator(".step .text").first.text_content())
        assert HOSTILE in str(view.locator(".outcome").text_content())

    look(hostile_runs, see, at="/problem?run={kept}&row=1")


def test_a_folder_with_markup_in_its_name_is_a_run_like_others(hostile_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        view.get_by_role("link", name="a<b>&'c", exact=True).click()
        expect(view.get_by_role("heading", level=1)).to_have_text("a<b>&'c")

    look(hostile_runs, see)


def test_on_a_phone_problems_are_cards_with_both_answers(some_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        settle(view, ".tabulator-row")
        expect(view.locator(".card").first).to_contain_text("expected 7")
        view.locator(".card").first.click()
        expect(view.locator(".step")).to_have_count(3)
        sides: Any = view.locator(".sides").first.evaluate("(sides) => getComputedStyle(sides).gridTemplateColumns")
        assert len(sides.split()) == 1

    look(some_runs, see, at="/run?run={router}", size=PHONE)


def test_light_and_dark_follow_the_readers_choice(some_runs: Path, look: Look) -> None:
    backs: list[str] = []

    def see(view: Page) -> None:
        backs.append(view.evaluate("getComputedStyle(document.documentElement).backgroundColor"))

    for scheme in ("light", "dark"):
        look(some_runs, see, scheme=scheme)
    assert backs == ["rgb(247, 247, 245)", "rgb(18, 21, 24)"]


def test_tab_reaches_every_control_and_its_focus_is_seen(some_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        settle(view, ".tabulator-row")
        seen: list[str] = []
        for _ in range(20):
            view.keyboard.press("Tab")
            seen.append(view.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
            assert view.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        assert {"skip", "help", "filter", "find", "Names", "All", "Wrong"} <= set(seen)

    look(some_runs, see, at="/run?run={router}")


def test_a_server_that_has_gone_is_said_and_what_was_shown_stays(hostile_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        settle(view, ".tabulator-row")
        view.route("**/api/**", lambda route: route.abort())
        expect(view.locator("#link")).to_have_text("no connection")
        expect(view.get_by_text("arbiter view does not answer")).to_be_visible()
        assert view.locator(".tabulator-row").count() > 0
        view.unroute("**/api/**")
        expect(view.locator("#link")).not_to_have_text("no connection")
        expect(view.get_by_text("arbiter view does not answer")).to_have_count(0)

    look(hostile_runs, see, refused=True)
