"""One problem, two runs and other thresholds in the viewer's page: what it shows is what the API says."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright (the extra dev)")
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.slow

Look = Callable[..., None]
View = Callable[[Path], Any]


def joined(side: Locator, *tags: str) -> str:
    """The text of a side of a diff: the common parts, and those with one of the tags."""
    return side.locator(".text").evaluate(
        "(text, tags) => [...text.childNodes].filter((part) => part.nodeType === 3 || tags.includes(part.localName))"
        ".map((part) => part.textContent).join('')",
        list(tags),
    )


@pytest.fixture
def router(view: View, some_runs: Path) -> Any:
    """What the API says of the run ``router``: a function from a path to an answer."""
    with view(some_runs) as browsing:
        run = browsing.id("router")
        browsing.whole(f"runs/{run}/problems")
        answers = {
            "problems": browsing.get(f"runs/{run}/problems", limit=100)["rows"],
            "problem": browsing.get(f"runs/{run}/problems/1"),
            "timeline": browsing.get(f"runs/{run}/timeline"),
            **{tau: browsing.get(f"runs/{run}/what-if", threshold=tau) for tau in ("0.1", "0.5", "0.7")},
        }
    return answers.__getitem__


def test_a_transcript_has_all_steps_with_author_decision_and_both_texts(
    some_runs: Path, look: Look, router: Any
) -> None:
    problem = router("problem")

    def see(view: Page) -> None:
        steps = view.locator(".step")
        expect(steps).to_have_count(len(problem["steps"]))
        expect(view.locator(".question")).to_contain_text(problem["question"])
        for answer in (problem["expected"], problem["answer"]):
            expect(view.locator(".outcome .answer", has_text=answer).first).to_be_visible()
        for shown, step in zip(steps.all(), problem["steps"], strict=True):
            expect(shown.locator(".who").first).to_contain_text(step["author"])
            expect(shown.locator(".decision")).to_have_text(step["decision"])
            if len(step["candidates"]) == 1:
                expect(shown.locator(".text")).to_have_text(step["text"])
                continue
            rejected, kept = shown.locator(".side.rejected"), shown.locator(".side.kept")
            assert joined(kept, "ins") == step["text"]
            assert joined(rejected, "del") == step["candidates"][1 - step["kept"]]["text"]
        view.get_by_text(f"All {len(problem['calls'])} requests").click()
        expect(view.locator(".calls tbody tr")).to_have_count(len(problem["calls"]))

    look(some_runs, see, at="/problem?run={router}&row=1")


def test_the_author_of_a_step_is_seen_without_colour(some_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        expect(view.locator(".step")).to_have_count(3)
        marks = {text[0] for text in view.locator(".step > .line .who").all_inner_texts()}
        assert marks <= {"□", "■"}
        bars = view.locator(".step").evaluate_all(
            "(steps) => steps.map((step) => [step.className.includes('draft'),"
            " getComputedStyle(step, '::before').backgroundImage.includes('gradient')])"
        )
        assert bars
        assert all(is_draft == is_hatched for is_draft, is_hatched in bars)

    look(some_runs, see, at="/problem?run={router}&row=1")


def test_next_and_previous_stay_within_the_filter(some_runs: Path, look: Look, router: Any) -> None:
    wrong = [row["id"] for row in router("problems") if row["grade"] == "wrong"]
    assert len(wrong) > 1

    def see(view: Page) -> None:
        view.get_by_role("button", name="Wrong").click()
        expect(view.locator(".found")).to_have_text(f"{len(wrong)} of 12 problems")
        view.keyboard.press("j")
        view.keyboard.press("Enter")
        for number, name in enumerate(wrong):
            expect(view.get_by_role("heading", level=1)).to_contain_text(name)
            expect(view.locator(".neighbours")).to_contain_text(f"{number + 1} of {len(wrong)}")
            if number + 1 < len(wrong):
                view.get_by_role("link", name="Next").click()
        view.keyboard.press("p")
        expect(view.get_by_role("heading", level=1)).to_contain_text(wrong[-2])
        view.keyboard.press("Escape")
        expect(view.locator(".tabulator-row.current .ends")).to_have_text(wrong[-2])

    look(some_runs, see, at="/run?run={router}")


def test_keys_go_from_step_to_step(some_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        expect(view.locator(".step")).to_have_count(3)
        for key, step in [("j", "step-0"), ("j", "step-1"), ("k", "step-0"), ("j", "step-1"), ("j", "step-2")]:
            view.keyboard.press(key)
            expect(view.locator(f"#{step}")).to_be_focused()

    look(some_runs, see, at="/problem?run={router}&row=1", size=(1280, 400))


def test_two_marked_runs_are_compared_step_by_step(some_runs: Path, look: Look, view: View) -> None:
    with view(some_runs) as browsing:
        a, b = browsing.id("router"), browsing.id("rsd")
        rows = browsing.whole("compare/problems", a=a, b=b, limit=100)["rows"]
        first = next(row for row in rows if row["parts"] is not None)
        pair = browsing.get("compare/problem", a=a, b=b, row=first["a"]["row"])

    def see(page: Page) -> None:
        page.get_by_label("Compare router").check()
        page.get_by_label("Compare rsd").check()
        page.keyboard.press("c")
        expect(page.locator(".found")).to_have_text("12 problems")
        changed = sum(row["change"] != "none" for row in rows)
        page.get_by_role("button", name="Changed grade").click()
        expect(page.locator(".found")).to_have_text(f"{changed} of 12 problems")
        page.get_by_role("button", name="Other steps").click()
        page.locator(".tabulator-row .ends").get_by_text(first["id"], exact=True).click()
        expect(page.locator(".parts-here .number")).to_have_text(f"Step {first['parts'] + 1}")
        for side in ("a", "b"):
            half = page.locator(".parts-here .side").nth("ab".index(side))
            assert joined(half, "mark") == pair[side]["steps"][first["parts"]]["text"]
        page.keyboard.press("Escape")
        expect(page.locator(".found")).to_contain_text("of 12 problems")

    look(some_runs, see)


def test_the_figures_of_the_slider_are_those_of_the_api(some_runs: Path, look: Look, router: Any) -> None:
    def see(view: Page) -> None:
        slider = view.get_by_role("slider", name="Threshold τ")
        expect(slider).to_have_value("0.5")
        for tau in ("0.5", "0.1", "0.7"):
            known = router(tau)
            slider.fill(tau)
            expect(view).to_have_url(re.compile(rf"threshold={tau}|what-if\?run=\w+$"))
            expect(view.locator(".known")).to_contain_text(f"Known exactly: {known['exact']} of 12 problems")
            expect(view.locator("th").nth(2)).to_have_text(f"with τ = {tau}")
            for key in ("escalations", "target_calls", "target_tokens", "draft_tokens", "steps"):
                expect(view.locator(f"[data-figure={key}]")).to_have_text(f"{known['replayed'][key]:,}")
            accuracy = known["replayed"]["accuracy"]
            shown = "–" if accuracy is None else f"{accuracy * 100:.1f} %"
            expect(view.locator("[data-figure=accuracy]")).to_have_text(shown)
            if known["left"]["total"]:
                expect(view.get_by_text("need an answer that the run did not record")).to_be_visible()
            else:
                expect(view.get_by_text("Every problem follows from the recorded answers.")).to_be_visible()

    look(some_runs, see, at="/what-if?run={router}")


def test_the_slider_moves_by_keys_and_its_place_is_in_the_address(some_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        view.get_by_role("slider", name="Threshold τ").focus()
        view.keyboard.press("ArrowRight")
        expect(view).to_have_url(re.compile("threshold=0.505"))
        view.reload()
        expect(view.get_by_role("slider", name="Threshold τ")).to_have_value("0.505")

    look(some_runs, see, at="/what-if?run={router}")


def test_a_run_without_a_threshold_says_so(record: Any, problems: Any, tmp_path: Path, look: Look) -> None:
    record(tmp_path / "draft", problems(1), run_type="draft")

    def see(view: Page) -> None:
        expect(view.get_by_role("heading", name="This run has no threshold to move")).to_be_visible()

    look(tmp_path, see, at="/what-if?run={draft}")


def test_the_timeline_has_the_problems_and_each_model(some_runs: Path, look: Look, router: Any) -> None:
    def see(view: Page) -> None:
        expect(view.locator(".lanes-of-run h3")).to_contain_text("12 problems over")
        for model in router("timeline")["models"]:
            expect(view.get_by_role("heading", name=f"{model}: requests")).to_be_visible()
        assert view.locator(".uplot canvas").count() >= 4

    look(some_runs, see, at="/timeline?run={router}")


def test_the_settings_have_the_configuration(some_runs: Path, look: Look) -> None:
    def see(view: Page) -> None:
        expect(view.locator(".file").first).to_have_text((some_runs / "router" / "config.toml").read_text())

    look(some_runs, see, at="/settings?run={router}")


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("/run?run=0000000000000000", "gone"),
        ("/problem?run={router}&row=99", "no such problem"),
        ("/nowhere", "cannot be shown"),
    ],
)
def test_what_is_not_there_is_said_with_a_way_back(some_runs: Path, look: Look, at: str, said: str) -> None:
    def see(view: Page) -> None:
        expect(view.get_by_role("heading", level=1)).to_contain_text(said)
        view.get_by_role("link", name="All runs").click()
        expect(view.get_by_role("heading", name="Runs")).to_be_visible()

    look(some_runs, see, at=at, refused=True)


def test_a_problem_in_progress_grows_and_keeps_the_place_of_its_reader(growing: Any, look: Look) -> None:
    def see(view: Page) -> None:
        view.get_by_label("Filter by an expression").fill("unfinished")
        expect(view.locator(".found")).to_contain_text("of ")
        view.locator(".tabulator-row .ends").first.click()
        expect(view.get_by_role("heading", level=1)).to_contain_text("unfinished")
        growing.go_on()
        expect(view.get_by_role("heading", level=1)).to_contain_text("wrong")
        expect(view.locator(".step")).to_have_count(1)

    look(growing.folder, see, at="/run?run={growing}")


@pytest.mark.parametrize(("run_type", "marks"), [("router", 1), ("oracle", 0)])
def test_a_score_has_the_mark_of_a_threshold_only_if_it_is_compared_with_it(
    record: Any, tmp_path: Path, look: Look, problems: Any, run_type: str, marks: int
) -> None:
    record(tmp_path / "run", problems(1), run_type=run_type)

    def see(view: Page) -> None:
        expect(view.locator(".step .score-bar").first).to_be_visible()
        assert (view.locator(".step .score-bar .tau").count() > 0) is bool(marks)

    look(tmp_path, see, at="/problem?run={run}&row=1")
