"""The data sets that have a name of their own: where each comes from, and the setting in which it is used."""

import re
from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from arbiter.config.config import Config
from arbiter.config.run_tables import USUAL, Fields
from arbiter.data.choices import LETTERS
from arbiter.data.drawn_sets import DRAWN
from arbiter.data.hub import HubData
from arbiter.data.problems import Problem

QUESTION = "{question}"
_PLACE = re.compile(r"\{(?P<name>\w+)(?P<first>\[0\])?\}")

GraderName = Literal["math", "choice", "code"]

_CHOICE = (
    "Answer the following multiple choice question. The last line of your response should be of the following format: "
    "'Answer: $LETTER' (without quotes) where LETTER is one of {letters}. Think step by step before answering.\n\n"
    "{question}"
)
_CODE = "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n"
_PROGRAM = (
    "You will be given a question (problem specification) and will generate a correct Python program that matches the "
    "specification and passes all tests.\n\nQuestion: {question}\n\n"
)


class KnownSet(msgspec.Struct, frozen=True, kw_only=True):
    """A published data set, and the setting in which it is used.

    ``rows`` is the number of problems. ``licence`` is empty if it is only on the page of the data set. ``harness`` is
    the program whose setting is followed: the source of the data, the prompt and what is compared.

    ``prompt`` is put around each question. It has ``{question}``, and can have ``{letters}`` (those of the choices) and
    the fields of the row: ``{FIELD}``, or ``{FIELD[0]}`` for the first item of a list. None leaves the question alone,
    because the models' own templates ask for what the harness asks for. ``prompt_with`` has a field and the prompt of
    rows in which it is not empty.
    """

    data: HubData
    rows: int
    licence: str
    grader: GraderName
    harness: str
    prompt: str | None = None
    prompt_with: tuple[str, str] | None = None
    fields: Fields = USUAL

    def question(self, problem: Problem) -> str:
        """Return the question of a problem of the set with the set's prompt around it."""
        prompt = self.prompt
        if self.prompt_with is not None and problem.row.get(self.prompt_with[0]):
            prompt = self.prompt_with[1]
        if prompt is None:
            return problem.question
        values = {**problem.row, "question": problem.question, "letters": LETTERS[: len(problem.choices)]}
        return filled(prompt, {name: _stripped(value) for name, value in values.items()})


def filled(prompt: str, values: Mapping[str, Any]) -> str:
    """Return ``prompt`` with a value in each ``{NAME}``, or the first item of a list in ``{NAME[0]}``.

    Names without a value stay as they are.
    """

    def value_of(place: re.Match[str]) -> str:
        value = values.get(place["name"], place[0])
        if place["first"] and isinstance(value, list):
            value = next(iter(cast("list[object]", value)), "")
        return str(value)

    return _PLACE.sub(value_of, prompt)


def _stripped(value: object) -> object:
    if isinstance(value, list):
        return [_stripped(item) for item in cast("list[object]", value)]
    return value.strip() if isinstance(value, str) else value


_QWEN = "Qwen2.5-Math"
_LIGHTEVAL = "lighteval"

KNOWN: dict[str, KnownSet] = {
    "gsm8k": KnownSet(
        data=HubData("openai/gsm8k", "main", "test"), rows=1319, licence="MIT", grader="math", harness=_QWEN
    ),
    "math500": KnownSet(
        data=HubData("HuggingFaceH4/MATH-500", split="test"), rows=500, licence="MIT", grader="math", harness=_QWEN
    ),
    "olympiadbench": KnownSet(
        data=HubData("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train"),
        rows=674,
        licence="Apache 2.0",
        grader="math",
        harness=_QWEN,
    ),
    "minerva_math": KnownSet(
        data=HubData("math-ai/minervamath", split="test"), rows=272, licence="", grader="math", harness=_QWEN
    ),
    "college_math": KnownSet(
        data=HubData("realtreetune/college_math", split="test"), rows=2818, licence="", grader="math", harness=_QWEN
    ),
    "aime24": KnownSet(
        data=HubData("HuggingFaceH4/aime_2024", split="train"), rows=30, licence="", grader="math", harness=_LIGHTEVAL
    ),
    "aime25": KnownSet(
        data=HubData("MathArena/aime_2025", split="train"), rows=30, licence="", grader="math", harness="MathArena"
    ),
    "aime26": KnownSet(
        data=HubData("MathArena/aime_2026", split="train"), rows=30, licence="", grader="math", harness="MathArena"
    ),
    "amc23": KnownSet(data=HubData("math-ai/amc23", split="test"), rows=40, licence="", grader="math", harness=_QWEN),
    "gpqa-diamond": KnownSet(
        data=HubData("Idavidrein/gpqa", "gpqa_diamond", "train"),
        rows=198,
        licence="CC BY 4.0, with terms to accept",
        grader="choice",
        harness="simple-evals",
        prompt=_CHOICE,
    ),
    "mmlu-pro": KnownSet(
        data=HubData("TIGER-Lab/MMLU-Pro", split="test"),
        rows=12032,
        licence="MIT",
        grader="choice",
        harness=_LIGHTEVAL,
        prompt=_CHOICE,
    ),
    "arc-challenge": KnownSet(
        data=HubData("allenai/ai2_arc", "ARC-Challenge", "test"),
        rows=1172,
        licence="CC BY-SA 4.0",
        grader="choice",
        harness="simple-evals (prompt), lighteval (data)",
        prompt=_CHOICE,
    ),
    "humaneval+": KnownSet(
        data=HubData("evalplus/humanevalplus", split="test"),
        rows=164,
        licence="Apache 2.0",
        grader="code",
        harness="evalplus",
        prompt=_CODE + "```python\n{question}\n```",
        fields=Fields(question="prompt"),
    ),
    "mbpp+": KnownSet(
        data=HubData("evalplus/mbppplus", split="test"),
        rows=378,
        licence="Apache 2.0",
        grader="code",
        harness="evalplus",
        prompt=_CODE + '```python\n"""\n{question}\n{test_list[0]}\n"""\n```',
        fields=Fields(question="prompt"),
    ),
    "livecodebench": KnownSet(
        data=HubData("livecodebench/code_generation_lite", split="test"),
        rows=1055,
        licence="CC",
        grader="code",
        harness=_LIGHTEVAL,
        prompt=_PROGRAM
        + "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on the "
        "sample inputs). Enclose your code within delimiters as follows. Ensure that when the python program runs, it "
        "reads the inputs, runs the algorithm and writes output to STDOUT.\n```python\n# YOUR CODE HERE\n```",
        prompt_with=(
            "starter_code",
            _PROGRAM
            + "You will use the following starter code to write the solution to the problem and enclose your code "
            "within delimiters.\n```python\n{starter_code}\n```",
        ),
        fields=Fields(question="question_content", id="question_id"),
    ),
}
"""The data sets by name. ``docs/reference/data-sets.md`` has them as a table, which is made from this one."""


def known_data(source: str, subset: str | None, split: str | None) -> HubData | None:
    """Return the data set with the name ``source``; None if there is none. ``subset`` and ``split`` replace its own."""
    known = KNOWN.get(source.lower())
    return known and HubData(known.data.name, subset or known.data.subset, split or known.data.split)


def grader_of(config: Config) -> str | None:
    """Return the name of the configured grader, or that of the named data set. None: each problem decides."""
    source = config.data.source
    known = DRAWN.get(source.partition(":")[0]) or KNOWN.get(source.lower())
    return config.data.grader or (None if known is None else known.grader)


def has_whole_blocks(config: Config) -> bool:
    """Return whether a step of the configured run ends only where no fenced block is open."""
    return grader_of(config) == "code" if config.whole_blocks is None else config.whole_blocks
