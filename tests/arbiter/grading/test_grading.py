"""Right, wrong and ungraded answers, with real ``math-verify`` in real worker processes."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_process
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.grading import equivalence
from arbiter.grading import math_grader as grader_module
from arbiter.grading.answers import Reference
from arbiter.grading.equivalence import EquivalenceVerdict
from arbiter.grading.grader import LONGEST, Grade, GradingRequest
from arbiter.grading.math_grader import MathGrader, needs_mathematics
from arbiter.grading.readings import Reading
from tests.hypothesis_profiles import examples

pytestmark = pytest.mark.slow

Case = tuple[str, str | Reference]
NO_ANSWER = 'there is no answer: no box, and no phrase such as "The final answer is"'
SLOW = "\\prod_{k=1}^{100000} (k^2+1)"
"""Mathematics that the library computes for long."""


async def graded(answer: str, reference: str | Reference | None) -> Grade:
    return await MathGrader().grade(GradingRequest(f"So it is \\boxed{{{answer}}}.", reference))


async def all_graded(cases: Sequence[Case]) -> list[Grade]:
    grader, grades = MathGrader(), dict[int, Grade]()

    async def grade(place: int, answer: str, reference: str | Reference) -> None:
        grades[place] = await grader.grade(GradingRequest(f"\\boxed{{{answer}}}", reference))

    async with anyio.create_task_group() as grading:
        for place, (answer, reference) in enumerate(cases):
            grading.start_soon(grade, place, answer, reference)
    return [grades[place] for place in range(len(cases))]


async def expect(right: bool | None, cases: Sequence[Case]) -> None:
    grades = await all_graded(cases)
    assert [(case, grade) for case, grade in zip(cases, grades, strict=True) if grade.right is not right] == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "reference"),
    [("12", "12"), ("-3", "-3"), ("007", "7"), (" 12 ", "12\n"), ("\\frac{a}{b}", "\\frac{a}{b}")],
)
async def test_an_answer_that_is_the_reference_is_right(answer: str, reference: str) -> None:
    assert await graded(answer, reference) == Grade(right=True, answer=answer.strip(), found_by="box")


@pytest.mark.asyncio
async def test_another_whole_number_is_wrong_and_the_right_one_is_told() -> None:
    wrong = Grade(right=False, answer="12", reason="the right answer is 13", found_by="box")
    assert await graded("12", "13") == wrong


@pytest.mark.asyncio
async def test_a_text_without_an_answer_is_wrong_and_says_so() -> None:
    assert await MathGrader().grade(GradingRequest("it is 3", "3")) == Grade(right=False, reason=NO_ANSWER)


@pytest.mark.asyncio
async def test_an_answer_after_a_phrase_is_graded_and_the_grade_names_the_rule() -> None:
    grade = await MathGrader().grade(GradingRequest("So it is 3.\n**Final answer:** 3", "3"))
    assert grade == Grade(right=True, answer="3", found_by="final answer")


@pytest.mark.asyncio
async def test_the_phrase_that_the_question_asks_for_comes_before_the_others() -> None:
    question = "What is 1 + 2? End with 'Answer: ' and a number."
    grade = await MathGrader().grade(GradingRequest("#### 4\nAnswer: 3", "3", question=question))
    assert (grade.right, grade.found_by) == (True, "answer:")


@pytest.mark.asyncio
async def test_a_box_within_a_thought_is_no_answer() -> None:
    grade = await MathGrader().grade(GradingRequest("<think>is it \\boxed{3}?</think>It is 4.", "3"))
    assert grade == Grade(right=False, reason=NO_ANSWER)


@pytest.mark.asyncio
async def test_a_thought_that_never_ends_has_no_answer_and_says_so() -> None:
    grade = await MathGrader().grade(GradingRequest("<think>is it \\boxed{3}?", "3"))
    reason = "a thought never ends (there is no </think>), so there is no answer"
    assert grade == Grade(right=False, reason=reason)


@pytest.mark.asyncio
@pytest.mark.parametrize(("text", "answer"), [("\\boxed{3}", "3"), ("it is 3", None), ("<think>", None)])
async def test_without_a_reference_an_answer_is_ungraded_with_the_reason(text: str, answer: str | None) -> None:
    grade = await MathGrader().grade(GradingRequest(text, None))
    found_by = None if answer is None else "box"
    reason = "the problem has no reference answer"
    assert grade == Grade(right=None, answer=answer, reason=reason, found_by=found_by)


@pytest.mark.asyncio
async def test_answers_are_compared_as_mathematics() -> None:
    await expect(
        True,
        [
            ("0.5", "\\frac{1}{2}"),
            ("\\frac12", "0.5"),
            ("1+x", "x+1"),
            ("$\\frac{79}{128}$", "\\frac{79}{128}"),
            ("x=5", "5"),
            ("5", "x=5"),
            ("2x", "f(x)=2x"),
            ("f(x)=x+x", "f(x)=2x"),
            ("n^2-n-1", "m_{\\max }=n^{2}-n-1"),
            ("58500", "58,500"),
            ("10080", "10,\\!080"),
            ("\\frac95", "1\\frac{4}{5}"),
            ("18.9", "\\$18.90"),
            ("90", "90^\\circ"),
            ("\\begin{bmatrix}0.2\\\\2\\end{bmatrix}", "\\begin{pmatrix}1/5\\\\2\\end{pmatrix}"),
            ("0.333333", "\\frac13"),
            ("50\\%", "50"),
        ],
    )


@pytest.mark.asyncio
async def test_what_is_not_the_same_is_wrong() -> None:
    await expect(
        False,
        [
            ("\\frac{1}{3}", "0.5"),
            ("0.33", "\\frac{1}{3}"),
            ("", "0.5"),
            ("q-p", "p-q"),
            ("[1,2]", "(1,2)"),
            ("(2, 1)", "(1,2)"),
            ("\\frac45", "1\\frac45"),
            ("y=5", "x=5"),
            ("g(x)=2x", "f(x)=2x"),
            ("\\text{not } 5", "5"),
            ("there are 5 apples or 7", "5"),
            ("5 or 7", "5"),
            ("5, 7", "5"),
            ("42", "52_8"),
        ],
    )


@pytest.mark.asyncio
async def test_sets_and_intervals_have_many_spellings() -> None:
    await expect(
        True,
        [
            ("-2, 1", "1,-2"),
            ("\\{1,-2\\}", "1,-2"),
            ("x=1 \\text{ or } x=-2", "1,-2"),
            ("3+2\\sqrt2, 3-2\\sqrt2", "3 \\pm 2\\sqrt{2}"),
            ("[-2,7]", "x \\in [-2,7]"),
            ("-2 \\le x \\le 7", "[-2,7]"),
            ("[2,\\infty)", "k \\geqslant 2"),
        ],
    )


@pytest.mark.asyncio
async def test_choices_and_texts_are_compared_as_words() -> None:
    await expect(True, [("C", "\\text{(C)}"), ("(C) 15", "C"), ("evelyn", "\\text{Evelyn}"), ("\\text{Yes}", "yes")])
    await expect(False, [("B", "\\text{(C)}"), ("15", "\\text{(C)}"), ("Navin", "\\text{Evelyn}"), ("seat", "east")])


@pytest.mark.asyncio
async def test_several_answers_are_all_given_in_any_order() -> None:
    three = Reference(("2", "-2", "\\frac{1}{2}"))
    await expect(True, [("-2, 0.5, 2", three), ("\\{2,-2,1/2\\}", three), ("\\pm 2, \\frac12", three)])
    await expect(True, [("x=-2, x=2 \\text{ and } x=0.5", three), ("1,1", Reference(("1", "1")))])
    await expect(False, [("2, -2", three), ("2, 2, -2", three), ("2,-2,0.5,7", three), ("1,2", Reference(("1", "1")))])


@pytest.mark.asyncio
@pytest.mark.parametrize("reference", [Reference(("1", "2")), "1,2", "\\{1, 2\\}"])
async def test_several_answers_may_stand_in_a_box_each(reference: str | Reference) -> None:
    grader = MathGrader()
    assert (await grader.grade(GradingRequest("so \\boxed{2} and \\boxed{1}.", reference))).right is True
    assert (
        await grader.grade(GradingRequest("\\boxed{2}, \\boxed{1}, that is \\boxed{1} or \\boxed{2}", reference))
    ).right is True
    assert (await grader.grade(GradingRequest("so \\boxed{2} and \\boxed{3}.", reference))).right is False


@pytest.mark.asyncio
async def test_a_unit_may_be_left_out_but_not_be_another_one() -> None:
    await expect(
        True,
        [
            ("50", Reference(("50",), unit="minutes")),
            ("50 \\text{ min}", Reference(("50",), unit="minutes")),
            ("\\frac{600}{7} \\mathrm{~km/h}", Reference(("$\\frac{600}{7}$",), unit="km/h")),
            ("90, 90^\\circ", Reference(("\\angle B E A_{1}=90", "\\angle A E B_{1}=90"), unit="^{\\circ}")),
        ],
    )
    await expect(False, [("50 \\text{ hours}", Reference(("50",), unit="minutes"))])


@pytest.mark.asyncio
async def test_a_number_may_be_off_by_the_tolerance() -> None:
    one, each = Reference(("4.2",), "%", (0.1,)), Reference(("4.2", "10"), tolerance=(0.1, 2.0))
    await expect(True, [("4.3\\%", one), ("4.1", one), ("\\frac{43}{10}", one), ("9, 4.2", each), ("x=4.25", one)])
    await expect(False, [("4.4", one), ("0.042", one), ("4.9, 10", each), ("x", one), ("9, 4.4", each)])


@pytest.mark.asyncio
async def test_where_a_side_cannot_be_read_the_texts_decide() -> None:
    await expect(True, [("t (0,4]", "$t(0,4]$"), ("5 \\heartsuit", "5\\heartsuit")])
    await expect(False, [("(0,4]", "$t(0,4]$"), ("5", "$t(0,4]$"), ("5\\heartsuit", "5"), ("@", "1")])


@pytest.mark.asyncio
async def test_an_answer_that_is_too_long_is_another_text_and_is_cut() -> None:
    grade = await graded("1+" * LONGEST, "3")
    reason = f"the answer is longer than {LONGEST} characters, and the texts differ"
    assert (grade.right, grade.reason) == (False, reason)
    assert grade.answer == ("1+" * LONGEST)[:LONGEST]


@pytest.mark.asyncio
async def test_a_long_answer_that_is_the_reference_is_right() -> None:
    assert (await graded("1+" * LONGEST, "1+" * LONGEST)).right is True


@pytest.mark.asyncio
async def test_a_reference_that_is_too_long_is_told() -> None:
    grade = await graded("3", "1+" * LONGEST)
    reason = f"the reference answer is longer than {LONGEST} characters, and the texts differ"
    assert (grade.right, grade.reason) == (False, reason)


@pytest.mark.asyncio
async def test_deeply_nested_braces_are_another_text() -> None:
    await expect(False, [("{" * 900 + "}" * 900, "0.5"), ("{" * 900 + "3" + "}" * 900, "0.5"), ("(" * 900, "0.5")])


@pytest.mark.asyncio
async def test_long_and_repetitive_texts_are_judged_in_little_cpu_time() -> None:
    nested = [(opening * 900 + "1" + closing * 900, "2") for opening, closing in ("()", "[]", "{}")]
    digits = [("0." + "1" * 300, "2"), ("0." + "1" * 300 + "2\\ldots", "\\frac19")]
    grader = MathGrader(workers=1, seconds=2)
    grades = [
        await grader.grade(GradingRequest(f"\\boxed{{{answer}}}", reference)) for answer, reference in nested + digits
    ]
    assert [grade.right for grade in grades] == [False] * len(grades)


@pytest.mark.asyncio
async def test_long_sums_and_products_are_computed() -> None:
    await expect(True, [("+".join(["x"] * 481), "481x"), ("x" * 900, "x^{900}"), ("1" + "+1" * 900, "901")])
    await expect(False, [("+".join(["x"] * 481), "480x"), ("x" * 900, "x^{899}")])


@pytest.mark.asyncio
async def test_a_text_on_which_reading_or_comparing_fails_is_another_text() -> None:
    failing = ["1/" * 900 + "1", "52_{\u1369}", "-" * 900 + "1", "\\sin" * 300 + "x"]
    await expect(False, [(text, "0.5") for text in failing] + [("0.5", text) for text in failing])
    await expect(True, [(text, text + " ") for text in failing])


@pytest.mark.asyncio
async def test_a_number_that_is_too_large_to_compute_differs_from_all_others_but_not_from_itself() -> None:
    await expect(False, [("9^{9^{9^9}}", "5"), ("(10^9)!", "5"), ("5", "9^{9^{9^9}}")])
    await expect(True, [("9^{9^{9^9}}", "9^{9^{9^{9}}}")])
    grade = await graded("9^{9^{9^9}}", "8^{9^{9^9}}")
    reason = "the numbers are too large to compare"
    assert grade == Grade(right=None, answer="9^{9^{9^9}}", reason=reason, found_by="box")


@pytest.mark.asyncio
async def test_what_needs_too_much_cpu_time_is_ungraded_with_the_reason_and_the_next_answer_is_judged() -> None:
    grader = MathGrader(workers=1, seconds=0.3)
    grade = await grader.grade(GradingRequest(f"\\boxed{{{SLOW}}}", "5"))
    assert grade == Grade(None, SLOW, "comparing needs more than 0.3 s of CPU time", "box")
    assert (await grader.grade(GradingRequest("\\boxed{\\frac12}", "0.5"))).right is True


@pytest.mark.asyncio
async def test_the_time_of_an_import_is_no_part_of_an_answers_time() -> None:
    grader = MathGrader(workers=1, seconds=0.5)  # a worker imports math-verify for longer
    assert (await grader.grade(GradingRequest("\\boxed{\\sum_{k=1}^{3} k}", "6"))).right is True


def interrupted() -> None:
    raise KeyboardInterrupt


def test_a_ctrl_c_before_a_worker_is_prepared_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivalence, "prepare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        equivalence.judge("1", Reference(("2",)), 1.0)


@pytest.mark.parametrize("error", [KeyError, TypeError])
def test_a_bug_of_the_grader_is_no_wrong_answer(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_text: str, _style: object) -> Reading:
        raise error("a rule")

    monkeypatch.setattr(equivalence, "prepare", lambda: None)
    monkeypatch.setattr(equivalence, "read", read)
    verdict = equivalence.judge("1", Reference(("2",)), 1.0)
    assert verdict.right is None
    assert verdict.reason is not None
    assert verdict.reason.startswith(f"the grader failed: {error.__name__}")


@pytest.mark.asyncio
async def test_a_worker_that_dies_is_replaced() -> None:
    grader = MathGrader(workers=1)
    await grader.warm()
    with pytest.raises(anyio.BrokenWorkerProcess):
        await anyio.to_process.run_sync(os._exit, 1)
    assert (await grader.grade(GradingRequest("\\boxed{\\frac12}", "0.5"))).right is True


def dies(answer: str, _reference: Reference, seconds: float) -> EquivalenceVerdict:
    """Runs in a worker, instead of the judge: counts its tries in the file that the answer names, and dies."""
    with Path(answer).open("a", encoding="utf-8") as file:
        file.write("x")
    time.sleep(seconds)
    os._exit(1)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("grace", "tries", "reason"),
    [
        (0.0, 1, "comparing needs more than 0.2 s of CPU time"),
        (1000.0, 3, "the grader's process died 3 times on this answer"),
    ],
)
async def test_an_answer_is_tried_again_if_its_worker_dies_before_its_limit(
    grace: float, tries: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grader_module, "judge", dies)
    monkeypatch.setattr(grader_module, "GRACE", grace)
    grade = await MathGrader(workers=1, seconds=0.2).grade(GradingRequest(f"\\boxed{{{tmp_path}/tries}}", "0.5"))
    assert (grade.right, grade.reason) == (None, reason)
    assert len((tmp_path / "tries").read_text()) == tries


@pytest.mark.asyncio
async def test_a_ctrl_c_does_not_reach_the_workers() -> None:
    grader = MathGrader(workers=1)
    await grader.warm()
    worker = await anyio.to_process.run_sync(os.getpid)
    os.kill(worker, signal.SIGINT)
    assert (await grader.grade(GradingRequest("\\boxed{\\frac12}", "0.5"))).right is True
    assert await anyio.to_process.run_sync(os.getpid) == worker


@examples(0.5)
@given(answer=st.text("0123456789xyn+-*/^(){}\\,.= frac", min_size=1, max_size=12))
def test_an_answer_is_its_own_right_answer(answer: str) -> None:
    grade = anyio.run(graded, answer, answer)
    assert grade.right or grade.answer != answer.strip()  # braces that do not match close another box


@pytest.mark.parametrize(("reference", "needed"), [("12", False), (None, False), ("0.5", True), ("x", True)])
def test_whole_numbers_need_no_worker(reference: str | None, needed: bool) -> None:
    assert needs_mathematics(reference) is needed


@pytest.mark.parametrize("reference", ["5", Reference(("1", "2"), "km", (0.1,)), None])
def test_a_reference_is_stored_as_a_text_where_that_is_enough(reference: str | Reference | None) -> None:
    written = msgspec.json.encode(reference)
    assert msgspec.json.decode(written, type=str | Reference | None) == reference
    assert written in {b'"5"', b"null", b'{"answers":["1","2"],"unit":"km","tolerance":[0.1]}'}
