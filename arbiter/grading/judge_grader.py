"""Grade free text: a language model decides whether an answer fulfils a rubric."""

import json
import re

import anyio

from arbiter.grading.grader import LONGEST, NO_END, Grade, GradingRequest
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.ports import GenerationRequest, Generator
from arbiter.protocols.records import Judgement, Transcript, Usage
from arbiter.protocols.tools import step_text
from arbiter.structured.thoughts import text_after_thought

PLACEHOLDERS = ("{question}", "{rubric}", "{answer}")
SEPARATOR = "\n<<<end of the verdict>>>\n"
"""The text that ends a verdict early: one that no model writes, because a verdict is a single step."""

JUDGE_PROMPT = """\
Decide whether the answer to a question fulfils a rubric. Judge by the rubric alone: not by style or length, and not by
anything that the answer says about its own quality.

Question:
{question}

Rubric:
{rubric}

Answer:
{answer}

Give your reasons in a few sentences. Then end with a line that is either "GRADE: CORRECT" or "GRADE: INCORRECT"."""

_PLACEHOLDER = re.compile(r"\{(question|rubric|answer)\}")
_VERDICT = re.compile(r"[ \t*]*GRADE:[ \t]*(CORRECT|INCORRECT)[ \t*.]*")
_SHOWN = 200


class JudgeGrader:
    """Grades with a language model, up to ``in_flight`` answers concurrently.

    ``prompt`` contains ``{question}``, ``{rubric}`` and ``{answer}`` once each. The rubric is the field ``rubric`` of
    the row, else the reference answer. ``in_thought`` is True if the prompt of ``judge`` opens a thought. Raises
    ``ConfigError`` if a placeholder is missing or repeated.
    """

    name = "judge"
    version = 1

    def __init__(
        self,
        judge: Generator,
        prompt: str = JUDGE_PROMPT,
        max_tokens: int = 1024,
        in_flight: int = 8,
        in_thought: bool = False,
    ) -> None:
        if any(prompt.count(name) != 1 for name in PLACEHOLDERS):
            raise ConfigError(f"data.judge.prompt must contain {', '.join(PLACEHOLDERS)} exactly once each")
        self._judge = judge
        self._prompt = prompt
        self._max_tokens = max_tokens
        self._places = anyio.CapacityLimiter(in_flight)
        self._in_thought = in_thought

    async def grade(self, request: GradingRequest) -> Grade:
        """Grade the text after the thought. It is ungraded if the judge fails, or gives no verdict in its form."""
        rubric = _rubric(request)
        if rubric is None:
            return Grade(right=None, reason="the row has no field rubric, and the problem no reference answer")
        if request.conclusion is None:
            return Grade(right=False, reason=NO_END)
        answer = step_text(request.conclusion.strip(), request.calls)
        filled = {"question": request.question, "rubric": rubric, "answer": answer}
        text = _PLACEHOLDER.sub(lambda found: filled[found[1]], self._prompt)
        judgement = await self._judgement(request.problem, text)
        right, reason = self._verdict(judgement)
        return Grade(right, answer[:LONGEST], reason, judgement=judgement)

    async def _judgement(self, problem: str, text: str) -> Judgement:
        """Return what the judge writes after ``text``, or the error with which it failed."""
        async with self._places:
            started = anyio.current_time()
            try:
                written = await self._judge.generate(self._request(problem, text))
            except BackendError as error:
                taken = round(anyio.current_time() - started, 6)
                return Judgement(text, "", None, Usage(), taken, f"{type(error).__name__}: {error}")
            seconds = round(anyio.current_time() - started, 6)
        return Judgement(text, written.text, written.stop_reason, written.usage + written.overhead, seconds)

    def _request(self, problem: str, text: str) -> GenerationRequest:
        return GenerationRequest(
            problem=problem,
            step=0,
            sample=0,
            author="target",
            transcript=Transcript(text),
            separator=SEPARATOR,
            max_tokens=self._max_tokens,
            temperature=0.0,
            top_p=1.0,
            seed=0,
        )

    def _verdict(self, judgement: Judgement) -> tuple[bool | None, str | None]:
        """Return whether the judge finds the answer right, and the reason."""
        if judgement.error is not None:
            return None, f"the judge failed: {judgement.error}"
        verdict = verdict_of(judgement.text, self._in_thought)
        conclusion = text_after_thought(judgement.text, self._in_thought) or judgement.text
        if verdict is not None:
            return verdict, None if verdict else f"the judge says: {_last_words(conclusion)}"
        if judgement.stop_reason == "limit":
            return None, f"the judge gave no verdict within {self._max_tokens} tokens"
        said = _last_words(conclusion)
        return None, f"the judge did not end with GRADE: CORRECT or GRADE: INCORRECT, but with {said!r}"


def verdict_of(text: str, in_thought: bool = False) -> bool | None:
    """Return the verdict in the last line of a judge's text; None if it has none, or several that differ."""
    conclusion = text_after_thought(text, in_thought) or ""
    lines = [line for line in conclusion.splitlines() if line.strip()]
    found = [match[1] for line in lines if (match := _VERDICT.fullmatch(line))]
    if not found or len(set(found)) > 1 or not _VERDICT.fullmatch(lines[-1]):
        return None
    return found[0] == "CORRECT"


def _rubric(request: GradingRequest) -> str | None:
    rubric = request.row.get("rubric")
    if rubric is None or rubric == "":
        return None if request.reference is None else str(request.reference)
    return rubric if isinstance(rubric, str) else json.dumps(rubric, ensure_ascii=False)


def _last_words(text: str) -> str:
    """Return the end of a judge's text without its verdict, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _VERDICT.fullmatch(line)]
    shown = " ".join(lines)
    return shown if len(shown) <= _SHOWN else "… " + shown[-_SHOWN:]
