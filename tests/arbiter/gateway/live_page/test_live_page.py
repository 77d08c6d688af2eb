"""What the endpoint's page shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from arbiter import Arbiter
from arbiter.config.config import load_config

pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright (the extra dev)")
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.slow

Look = Callable[..., None]
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><b>bold</b>"
Endpoint = Any  # with the methods of that of the conftest


def steps(view: Page, question: str) -> Locator:
    return view.locator(".problem", has_text=question).locator(".step")


def test_a_step_is_coloured_by_its_author_and_names_it(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        endpoint.solve("why")
        view.get_by_role("button", name="why").click()
        shown = steps(view, "why")
        expect(shown.locator(".who")).to_have_text(["draft", "target", "draft"])
        expect(shown.locator(".text:not(.rejected)")).to_have_text([
            "The draft says 0 of why.", "The target says 1 of why.", "The draft says 2 of why.",
        ])  # fmt: skip
        expect(shown.locator(".rejected")).to_have_text(["the draft wrote: The draft says 1 of why."])
        colours = shown.evaluate_all("found => found.map(one => getComputedStyle(one, '::before').backgroundColor)")
        assert colours == ["rgb(197, 129, 0)", "rgb(43, 112, 189)", "rgb(197, 129, 0)"]

    look(see)


def test_a_live_problem_shows_its_steps_and_what_is_done_for_it_until_it_is_given_up(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        expect(view.locator("#live-none")).to_be_visible()
        leave = endpoint.begin("endless")
        live = view.locator("#live .problem")
        expect(live).to_have_count(1)
        expect(live.locator(".state")).to_have_text("● the draft is writing")
        expect(live.locator(".who")).to_have_text(["draft", "target"])
        expect(view).to_have_title("Arbiter · 1 live")
        leave()
        expect(live).to_have_count(0)
        expect(view.locator("#ended .state")).to_have_text("✕ cancelled")

    look(see)


def test_the_acceptance_rate_is_a_number_a_bar_and_a_curve(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        expect(view.locator("#share")).to_have_text("–")
        endpoint.solve("one", "two")
        expect(view.locator("#share")).to_have_text("66.7%")
        expect(view.locator("#share-of")).to_have_text("of 6 steps kept from the draft")
        label = "66.7% of the steps were written by the draft, the others by the target"
        draft, target = view.get_by_role("img", name=label).locator("i").all()
        expect(draft).to_have_attribute("style", re.compile(r"width: 66\.66"))
        expect(target).to_have_attribute("style", re.compile(r"width: 33\.33"))
        curve = view.get_by_role("img", name="Acceptance rate over the last 6 steps: 66.7%").locator("polyline")
        expect(curve).to_have_attribute("points", "0,14.3 200,14.3")

    look(see)


def test_the_costs_are_shown_once_there_are_some_with_the_measure_beside_the_estimate(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        figures = view.locator(".figures > div")
        expect(figures.filter(has_text="ended")).to_be_visible()
        expect(figures.filter(has_text="cost")).to_have_count(0)
        cost = {"total": 0.0123456, "target_alone_estimated": 0.03, "ratio_estimated": 0.41152, "shadows": 0}
        endpoint.cost = {**cost, "ratio_measured": None}
        expect(figures.filter(has_text="cost")).to_contain_text("0.0123")
        expect(figures.filter(has_text="of target alone, estimated")).to_contain_text("41.2%")
        expect(figures.filter(has_text="of target alone, measured")).to_have_count(0)
        endpoint.cost = {**cost, "ratio_measured": 0.5, "shadows": 3}
        expect(figures.filter(has_text="of target alone, measured")).to_contain_text("50.0%")
        expect(figures.filter(has_text="of target alone, measured")).to_have_attribute("title", "Measured by 3 shadows")

    look(see)


def test_a_failing_server_is_shown_with_its_address_and_error_until_it_answers(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        target = view.locator(".model", has_text="target")
        expect(target.locator(".state")).to_have_text("○ idle")
        endpoint.solve("break")
        expect(target.locator(".state")).to_have_text("▲ failing")
        expect(target).to_contain_text("org/large · http://127.0.0.1:30001")
        expect(target.locator(".error")).to_contain_text("503: the engine is overloaded")
        expect(view.locator("#ended .state")).to_have_text("✕ failed")
        expect(view.locator(".figures .alarm")).to_contain_text("failed")
        endpoint.solve("mend")
        expect(target.locator(".state")).to_have_text("● ok")
        expect(target.locator(".error")).to_be_hidden()

    look(see)


def test_what_clients_and_models_write_is_shown_as_text(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        endpoint.solve(HOSTILE, tags={HOSTILE: HOSTILE})
        view.locator("#ended .head").click()
        expect(view.locator("#ended .question")).to_have_text(HOSTILE)
        expect(view.locator("#ended .step .text:not(.rejected)")).to_have_text([HOSTILE] * 3)
        expect(view.locator("#ended .about", has_text=f"{HOSTILE}: {HOSTILE}")).to_be_visible()
        assert view.locator("img, main b").count() == 0
        assert view.title() == "Arbiter"

    look(see)


def test_the_browser_runs_no_script_but_the_page_s_own(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        view.evaluate("""document.body.insertAdjacentHTML(
            "beforeend", `<img src="data:image/png," onerror="document.title = 'owned'">`
        )""")
        view.evaluate("""() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'owned'";
            document.body.append(script);
        }""")
        view.wait_for_timeout(100)
        assert view.title() == "Arbiter"

    look(see, expected="Content Security Policy")


def test_a_key_is_asked_for_until_it_is_the_right_one_and_kept_for_the_session(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        field = view.get_by_label("API key of this endpoint")
        expect(field).to_be_focused()
        expect(view.locator("main")).to_be_hidden()
        field.fill("wrong")
        field.press("Enter")
        expect(view.get_by_role("alert")).to_have_text("This key is not valid.")
        field.fill("right")
        view.get_by_role("button", name="Unlock").click()
        expect(view.locator("#models")).to_be_visible()
        expect(field).to_be_hidden()
        view.reload()
        expect(view.locator("#models")).to_be_visible()
        assert view.evaluate("localStorage.length") == 0

    look(see, key="right", expected="401")


def test_problems_of_the_pocket_models_are_shown_with_their_steps(look: Look) -> None:
    def see(view: Page, endpoint: Endpoint) -> None:
        endpoint.solve("Compute (12+30)*7.")
        view.locator("#ended .head").click()
        expect(view.locator("#ended .step").last).to_contain_text("boxed")
        assert set(view.locator("#ended .who").all_text_contents()) <= {"draft", "target"}
        expect(view.locator(".model")).to_have_count(4)
        expect(view.locator(".model", has_text="pocket:draft")).to_contain_text("in process")
        expect(view.locator(".facts")).to_contain_text("router at 0.5")

    pytest.importorskip("torch", reason="the pocket models need torch")
    look(see, arbiter=Arbiter(load_config("pocket"), leaving="cancel"))
