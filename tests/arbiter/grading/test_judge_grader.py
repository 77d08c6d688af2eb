"""A scripted model as the judge of free text."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.scripted import ScriptedGenerator
from arbiter.config.config import Config, load_config, override
from arbiter.data import Problem
from arbiter.grading import Grade, GradingRequest
from arbiter.grading.found_graders import find_grader
from arbiter.grading.judge_grader import JUDGE_PROMPT, JudgeGrader, verdict_of
from arbiter.log.identity import identity
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Judgement, Usage
from arbiter.runs.graders import open_graders

Configs = Callable[..., Config]

QUESTION = GradingRequest(
    "<think>hm</think>It rained {rubric}.", question="Why is it wet?", row={"rubric": "Names {answer}, the rain."}
)


async def graded(text: str, request: GradingRequest = QUESTION, prompt: str = JUDGE_PROMPT) -> tuple[Grade, list[str]]:
    """The grade by a judge that writes ``text``, and what it read."""
    read: list[str] = []

    def write(asked: GenerationRequest) -> Generation:
        read.append(asked.transcript.question)
        return Generation(text, "limit" if text.endswith("…") else "end", Usage(5, 3))

    return await JudgeGrader(ScriptedGenerator(write), prompt).grade(request), read


@pytest.mark.asyncio
async def test_the_judge_reads_question_rubric_and_the_answer_without_its_thought_as_they_are() -> None:
    _, read = await graded("GRADE: CORRECT", prompt="Q {question}\nR {rubric}\nA {answer}")
    assert read == ["Q Why is it wet?\nR Names {answer}, the rain.\nA It rained {rubric}."]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "right", "reason"),
    [
        ("It names it.\nGRADE: CORRECT", True, None),
        ("It names it.\n\n**GRADE: CORRECT**\n", True, None),
        ("It does not.\nGRADE: INCORRECT", False, "the judge says: It does not."),
        ("<think>\nGRADE: CORRECT\n</think>\nNo.\nGRADE: INCORRECT", False, "the judge says: No."),
        ("GRADE: CORRECT\nOr rather:\nGRADE: INCORRECT", None, "the judge did not end with"),
        (
            "GRADE: CORRECT\nThat is all.",
            None,
            "the judge did not end with GRADE: CORRECT or",
        ),
        ("The grade is correct", None, "but with 'The grade is correct'"),
        ("GRADE: CORRECT or INCORRECT", None, "the judge did not end with"),
        ("grade: correct", None, "the judge did not end with"),
        ("", None, "but with ''"),
        ("<think>GRADE: CORRECT", None, "the judge did not end with"),
        ("It is a long …", None, "the judge gave no verdict within 1024 tokens"),
    ],
)
async def test_only_a_last_line_in_the_right_form_is_a_verdict(
    text: str, right: bool | None, reason: str | None
) -> None:
    grade, _ = await graded(text)
    assert (grade.right, grade.answer) == (right, "It rained {rubric}.")
    assert grade.reason == reason if reason is None else reason in str(grade.reason)


@given(st.text(), st.booleans())
def test_the_last_line_decides_whatever_comes_before_it(before: str, right: bool) -> None:
    line = f"GRADE: {'CORRECT' if right else 'INCORRECT'}"
    expected = None if "<think>" in before or "GRADE:" in before else right
    assert verdict_of(f"{before}\n{line}") is expected


@pytest.mark.asyncio
async def test_the_rubric_is_that_of_the_row_else_the_reference() -> None:
    for row, reference, rubric in (
        ({"rubric": ["one", "two"]}, None, '["one", "two"]'),
        ({"rubric": ""}, "rain", "rain"),
        ({}, "rain", "rain"),
    ):
        _, read = await graded("GRADE: CORRECT", GradingRequest("a", reference, row=row))
        assert f"\nRubric:\n{rubric}\n" in read[0]
    grade, read = await graded("GRADE: CORRECT", GradingRequest("a"))
    assert (grade.right, read) == (None, [])
    assert grade.reason == "the row has no field rubric, and the problem no reference answer"


@pytest.mark.asyncio
async def test_an_answer_whose_thought_never_ends_is_wrong_and_no_judge_is_called() -> None:
    grade, read = await graded("GRADE: CORRECT", GradingRequest("<think>rain", "rain"))
    assert (grade.right, read) == (False, [])


@pytest.mark.asyncio
async def test_a_judge_that_fails_leaves_the_answer_ungraded() -> None:
    def fall(_: GenerationRequest) -> Generation:
        raise BackendError("the judge fell over")

    grade = await JudgeGrader(ScriptedGenerator(fall)).grade(QUESTION)
    assert (grade.right, grade.reason) == (None, "the judge failed: BackendError: the judge fell over")
    assert grade.judgement
    assert "It rained" in grade.judgement.prompt
    told = grade.judgement.text, grade.judgement.stop_reason, grade.judgement.usage, grade.judgement.error
    assert told == ("", None, Usage(), "BackendError: the judge fell over")


@pytest.mark.asyncio
async def test_a_grade_has_what_the_judge_read_and_wrote_and_all_tokens_of_it() -> None:
    def write(_: GenerationRequest) -> Generation:
        return Generation("Yes.\nGRADE: CORRECT", "end", Usage(5, 3, 2), Usage(5, 1))

    grade = await JudgeGrader(ScriptedGenerator(write), "Q {question} R {rubric} A {answer}").grade(QUESTION)
    assert grade.judgement
    assert msgspec.structs.replace(grade.judgement, seconds=0.0) == Judgement(
        "Q Why is it wet? R Names {answer}, the rain. A It rained {rubric}.",
        "Yes.\nGRADE: CORRECT",
        "end",
        Usage(10, 4, 2),
        0.0,
    )


@pytest.mark.asyncio
async def test_a_grade_that_needed_no_request_has_none_and_is_stored_without_one() -> None:
    grade, read = await graded("never asked", GradingRequest("an answer"))
    assert (read, bool(grade.judgement)) == ([], False)
    assert msgspec.json.decode(msgspec.json.encode(grade)).keys() == {"right", "answer", "reason", "found_by"}


@pytest.mark.parametrize("prompt", ["{question} {answer}", JUDGE_PROMPT + "{answer}"])
def test_a_prompt_without_its_placeholders_is_refused(prompt: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.judge\.prompt must contain \{question\}, \{rubric\}, \{answer\}"):
        JudgeGrader(ScriptedGenerator(lambda _: Generation("", "end", Usage())), prompt)


def test_the_judge_and_its_model_belong_to_the_run_only_if_they_grade_it(a_config: Configs) -> None:
    for grader in ("judge", "text"):
        keys = identity(a_config(run_type="draft", data={"grader": grader}), ())
        assert ("data.judge.prompt" in keys, "models.judge.model" in keys) == (grader == "judge",) * 2
        assert "models.judge.in_flight" not in keys


@pytest.mark.asyncio
async def test_a_judge_without_its_model_is_refused_with_the_way_out() -> None:
    config = override(load_config("pocket"), {"data": {"grader": "judge", "judge": {"model": "grader"}}}, "test")
    with pytest.raises(ConfigError, match=r"calls the model of the table \[models\.grader\] .* but there is none"):
        async with open_graders(config):
            pass
    with pytest.raises(ConfigError, match="needs a model"):
        find_grader("judge")


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_model_of_the_configuration_judges() -> None:
    """The pocket target knows nothing of rubrics: it is called, and what it writes is no verdict."""
    changes = {"data": {"grader": "judge", "judge": {"model": "target", "max_tokens": 8}}}
    async with open_graders(override(load_config("pocket"), changes, "test")) as graders:
        grade = await graders.of(Problem("p", "q")).grade(GradingRequest("It rained.", "rain", question="Why?"))
    assert (grade.right, grade.answer) == (None, "It rained.")
    assert str(grade.reason).startswith("the judge ")
