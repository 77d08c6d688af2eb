"""Using the live page: while problems start and end, by keyboard, on a phone, in dark mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright (the extra dev)")
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser

Look = Callable[..., None]
Endpoint = Any  # with the methods of that of the conftest

DESKTOP, PHONE = (1280, 900), (360, 740)
CONTRASTS = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const text = (child) => child.nodeType === 3 && child.data.trim();
  return [...document.querySelectorAll("body *")]
    .filter((node) => node.offsetParent && [...node.childNodes].some(text))
    .map((node) => [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => b - a))
    .map(([more, less]) => (more + 0.05) / (less + 0.05));
}"""
"""The contrast between each text and its background."""


def steps(view: Page, question: str) -> Locator:
    return view.locator(".problem", has_text=question).locator(".step")


def test_a_lost_connection_is_told_and_found_again(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        status = view.locator("#link")
        expect(status).to_have_text("Live")
        endpoint.solve("before")
        expect(view.locator("#ended .problem")).to_have_count(1)
        endpoint.disconnect()
        expect(status).to_contain_text("No connection, trying again")
        expect(view.locator("#ended .problem")).to_have_count(1)
        endpoint.connect()
        expect(status).to_have_text("Live")

    look(see, expected="ERR_CONNECTION_REFUSED")


def test_what_is_open_selected_and_scrolled_stays_so_while_others_come_and_go(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        endpoint.solve(*map(str, range(100, 140)))
        expect(view.locator("#ended .problem")).to_have_count(40)
        view.get_by_role("button", name="125").click()
        text = steps(view, "of 125.").nth(1).locator(".text").first
        text.select_text()
        place = text.bounding_box()
        assert view.evaluate("scrollY") > 0
        endpoint.solve(*map(str, range(200, 210)))
        expect(view.locator("#ended")).to_contain_text("of 209.")
        expect(view.locator("#ended")).not_to_contain_text("of 109.")
        assert view.evaluate("getSelection().toString().trim()") == "The target says 1 of 125."
        assert text.bounding_box() == place

    look(see)


def test_an_opened_problem_stays_when_the_endpoint_no_longer_tells_it(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        endpoint.solve("kept")
        view.get_by_role("button", name="kept").click()
        expect(steps(view, "of kept.")).to_have_count(3)
        endpoint.solve(*map(str, range(100, 150)))
        expect(view.locator("#ended")).to_contain_text("of 149.")
        expect(view.locator("#ended .problem")).to_have_count(41)  # the endpoint tells the last 40
        expect(steps(view, "of kept.")).to_have_count(3)
        view.get_by_role("button", name="kept").click()
        expect(view.locator("#ended .problem")).to_have_count(40)

    look(see)


def test_the_search_shows_the_problems_that_have_its_text(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        endpoint.solve("apples", tags={"client": "Anna"})
        endpoint.solve("pears", "break")
        for text, shown in [
            ("APPLES", 1),
            ("anna", 1),
            ("target says 1 of pears", 1),
            ("overloaded", 1),
            ("nothing", 0),
        ]:
            view.get_by_role("searchbox").fill(text)
            expect(view.locator(".problem:visible")).to_have_count(shown)
            expect(view.locator("#found")).to_have_text(f"{shown} of 3 problems")
        view.get_by_role("searchbox").fill("")
        expect(view.locator(".problem:visible")).to_have_count(3)

    look(see)


def test_a_problem_is_opened_and_closed_by_keys(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        endpoint.solve("why")
        button = view.get_by_role("button", name="why")
        expect(button).to_have_attribute("aria-expanded", "false")
        view.get_by_role("searchbox").focus()
        view.keyboard.press("Tab")
        expect(button).to_be_focused()
        view.keyboard.press("Enter")
        expect(button).to_have_attribute("aria-expanded", "true")
        expect(steps(view, "why")).to_have_count(3)
        expect(steps(view, "why").first).to_be_visible()
        view.keyboard.press("Enter")
        expect(steps(view, "why").first).to_be_hidden()

    look(see)


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window_and_texts_stand_out(look: Look, size: tuple[int, int], scheme: str) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        endpoint.begin("endless")
        endpoint.solve("why", "break", "x" * 300)
        expect(view.locator("#ended .problem")).to_have_count(3)
        for head in view.locator(".head").all():
            head.click()
        assert view.evaluate("document.documentElement.scrollWidth") == size[0]
        assert min(view.evaluate(CONTRASTS)) >= 4.5

    look(see, size=size, scheme=scheme)
