"""Each data set with a name of its own: rows of its shape, made for these tests, loaded from its layout and graded.

Code sets have no reference answer: their rows carry the tests that the code grader runs on the programs here.
"""

import base64
import csv
import io
import json
import pickle
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from arbiter.backends.opening import AnswerForm
from arbiter.config.config import parse
from arbiter.config.run_tables import Fields
from arbiter.data.hub import Folder
from arbiter.data.known_sets import KNOWN
from arbiter.data.loading import Problem, load_problems
from arbiter.grading.answers import Reference
from arbiter.protocols.records import Candidate, Solution, StepRecord, Usage
from arbiter.runs.graders import open_graders, with_rows

pyarrow: Any = import_module("pyarrow")  # it has no types
parquet: Any = import_module("pyarrow.parquet")

NO_IMAGES = {f"image_{number}": None for number in range(1, 10)}
OLYMPIAD: dict[str, Any] = {
    "id": 11,
    "question": "A square has the area 9. What is its side?",
    "solution": ["It is 3."],
    "final_answer": ["$3$"],
    "context": None,
    **NO_IMAGES,
    "modality": "Text-only",
    "difficulty": "Competition",
    "is_multiple_answer": False,
    "unit": None,
    "answer_type": "Numerical",
    "error": None,
    "question_type": "Open-ended",
    "subfield": "Geometry",
    "subject": "Maths",
    "language": "English",
}
ARC: dict[str, Any] = {
    "id": "Made_1",
    "question": "What melts first in the sun?",
    "choices": {"text": ["ice", "iron", "stone", "glass"], "label": ["A", "B", "C", "D"]},
    "answerKey": "A",
}
HUMANEVAL: dict[str, Any] = {
    "task_id": "HumanEval/0",
    "prompt": 'def twice(number: int) -> int:\n    """Return twice the number."""\n',
    "canonical_solution": "    return 2 * number\n",
    "entry_point": "twice",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}
MBPP: dict[str, Any] = {
    "task_id": 2,
    "code": "def twice(number):\n    return 2 * number",
    "prompt": "Write a function to double a number.",
    "source_file": "made.ipynb",
    "test_imports": [],
    "test_list": ["assert twice(2) == 4", "assert twice(0) == 0"],
    "test": "assert twice(2) == 4\nassert twice(3) == 6\n",
}
LIVECODE: dict[str, Any] = {
    "question_title": "Double",
    "question_content": "Read a number and print twice the number.",
    "platform": "atcoder",
    "question_id": "abc001_a",
    "contest_id": "abc001",
    "contest_date": "2024-01-01T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": '[{"input": "2", "output": "4", "testtype": "stdin"}]',
    "private_test_cases": base64.b64encode(
        zlib.compress(pickle.dumps('[{"input": "-1", "output": "-2", "testtype": "stdin"}]'))
    ).decode(),
    "metadata": "{}",
}
LEETCODE: dict[str, Any] = {
    **LIVECODE,
    "platform": "leetcode",
    "question_id": "2",
    "starter_code": "class Solution:\n    pass",
    "public_test_cases": '[{"input": "2", "output": "4", "testtype": "functional"}]',
    "private_test_cases": '[{"input": "-1", "output": "-2", "testtype": "functional"}]',
    "metadata": '{"func_name": "twice"}',
}
GPQA: dict[str, Any] = {
    "Question": "Which particle has no charge?",
    "Correct Answer": "the neutron",
    "Incorrect Answer 1": "the proton",
    "Incorrect Answer 2": "the electron",
    "Incorrect Answer 3": "the muon,\nof either kind",
    "Explanation": "It is neutral.",
    "Record ID": "rec1",
}
MMLU_PRO: dict[str, Any] = {
    "question_id": 70,
    "question": "Which number is the tenth?",
    "options": [f"the number {number}" for number in range(1, 11)],
    "answer": "J",
    "answer_index": 9,
    "cot_content": "",
    "category": "math",
    "src": "made",
}


class Sample(NamedTuple):
    """Files of a set's layout with their rows, and the references of those that the set's split has."""

    files: Mapping[str, Sequence[dict[str, Any]] | str]
    answers: Sequence[str | Reference | None]


def configs(**paths: str) -> str:
    """A ``README.md`` whose metadata names the files of each subset."""
    entries = [
        {
            "config_name": name.replace("_C", "-C"),
            "data_files": [{"split": Path(path).name.split("-")[0].split(".")[0], "path": path}],
        }
        for name, path in paths.items()
    ]
    return f"---\nconfigs: {json.dumps(entries)}\n---\n"


def gsm8k(answer: str) -> list[dict[str, Any]]:
    return [{"question": "How many are 1000 and 5?", "answer": f"It is <<1000+5={answer}>>.\n#### {answer}"}]


SAMPLES: dict[str, Sample] = {
    "gsm8k": Sample(
        {
            "README.md": configs(main="main/test-*", socratic="socratic/test-*"),
            "main/train-00000-of-00001.parquet": gsm8k("1"),
            "main/test-00000-of-00001.parquet": gsm8k("1,005"),
            "socratic/test-00000-of-00001.parquet": gsm8k("2"),
        },
        ["1005"],
    ),
    "math500": Sample(
        {
            "test.jsonl": [
                {
                    "problem": "What is half of 1?",
                    "solution": "It is $\\boxed{\\frac12}$.",
                    "answer": "\\frac{1}{2}",
                    "subject": "Prealgebra",
                    "level": 1,
                    "unique_id": "test/made/1.json",
                }
            ]
        },
        ["\\frac{1}{2}"],
    ),
    "olympiadbench": Sample(
        {
            "README.md": "---\nconfigs:\n- config_name: OE_TO_maths_en_COMP\n  data_files: "
            "OlympiadBench/OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.parquet\n- config_name: OE_TO_physics_en_COMP\n"
            "  data_files: OlympiadBench/OE_TO_physics_en_COMP/OE_TO_physics_en_COMP.parquet\n---\n",
            "OlympiadBench/OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.parquet": [
                OLYMPIAD,
                {**OLYMPIAD, "id": 12, "final_answer": ["$2,-2$"], "is_multiple_answer": True},
                {**OLYMPIAD, "id": 13, "final_answer": ["4.2"], "unit": "km", "error": "0.1"},
            ],
            "OlympiadBench/OE_TO_physics_en_COMP/OE_TO_physics_en_COMP.parquet": [OLYMPIAD],
        },
        ["$3$", Reference(("2", "-2")), Reference(("4.2",), "km", (0.1,))],
    ),
    "minerva_math": Sample({"test.jsonl": [{"question": "How fast, in m/s?", "answer": "4.5e33"}]}, ["4.5e33"]),
    "college_math": Sample(
        {
            "data/test-00000-of-00001.parquet": [
                {"data_source": "made", "question_number": "1.1", "problem": "Solve $x+1=3$.", "answer": "$x=2$"}
            ]
        },
        ["$x=2$"],
    ),
    "aime24": Sample(
        {
            "data/train-00000-of-00001.parquet": [
                {"id": 60, "problem": "q", "solution": "s", "answer": "033", "url": "u", "year": "2024"}
            ]
        },
        ["033"],
    ),
    "aime25": Sample(
        {
            "data/train-00000-of-00001.parquet": [
                {"problem_idx": 1, "problem": "q", "answer": 70, "problem_type": ["x"]}
            ]
        },
        ["70"],
    ),
    "aime26": Sample(
        {"data/train-00000-of-00001.parquet": [{"problem_idx": 1, "problem": "q", "answer": 277}]}, ["277"]
    ),
    "amc23": Sample({"test.jsonl": [{"id": 0, "question": "q", "answer": 27.0, "url": "u"}]}, ["27.0"]),
    "gpqa-diamond": Sample(
        {
            "README.md": configs(gpqa_diamond="gpqa_diamond.csv", gpqa_main="gpqa_main.csv").replace(
                '"gpqa_diamond", "path"', '"train", "path"'
            ),
            "gpqa_diamond.csv": [GPQA, {**GPQA, "Question": "Which one is neutral?"}],
            "gpqa_main.csv": [GPQA],
        },
        ["B", "B"],
    ),
    "mmlu-pro": Sample(
        {
            "data/test-00000-of-00001.parquet": [MMLU_PRO, {**MMLU_PRO, "question_id": 71, "answer": "C"}],
            "data/validation-00000-of-00001.parquet": [MMLU_PRO],
        },
        ["J", "C"],
    ),
    "arc-challenge": Sample(
        {
            "README.md": configs(ARC_Challenge="ARC-Challenge/test-*", ARC_Easy="ARC-Easy/test-*"),
            "ARC-Challenge/test-00000-of-00001.parquet": [
                ARC,
                {**ARC, "id": "2", "choices": {**ARC["choices"], "label": ["1", "2", "3", "4"]}, "answerKey": "2"},
            ],
            "ARC-Easy/test-00000-of-00001.parquet": [ARC],
        },
        ["A", "B"],
    ),
    "humaneval+": Sample({"data/test-00000-of-00001-0a1b2c3d.parquet": [HUMANEVAL]}, [None]),
    "mbpp+": Sample({"data/test-00000-of-00001-0a1b2c3d.parquet": [MBPP]}, [None]),
    "livecodebench": Sample(
        {
            "README.md": "---\nlicense: cc\n---\n",
            "test.jsonl": [LIVECODE],
            "test2.jsonl": [LEETCODE],
        },
        [None, None],
    ),
}


PROGRAMS = {
    "humaneval+": ["def twice(number):\n    return 2 * number"],
    "mbpp+": ["def twice(number):\n    return 2 * number"],
    "livecodebench": [
        "print(2 * int(input()))",
        "class Solution:\n    def twice(self, number):\n        return 2 * number",
    ],
}
"""Programs that solve the problems of the code sets in ``SAMPLES``."""

WRONG = {"mbpp+": "def twice(number):\n    return {2: 4, 0: 0}.get(number)"}
"""Programs that pass the tests of a smaller set, and fail those of this one."""


def as_bytes(rows: Sequence[dict[str, Any]] | str, suffix: str) -> bytes:
    if isinstance(rows, str):
        return rows.encode()
    if suffix == ".parquet":
        sink = io.BytesIO()
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), sink)
        return sink.getvalue()
    if suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()
    return "\n".join(map(json.dumps, rows)).encode()


Load = Callable[[str], list[Problem]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def opened(name: str) -> list[Problem]:
        for file, rows in SAMPLES[name].files.items():
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(as_bytes(rows, path.suffix))
        names: list[str] = []

        def hub(repository: str) -> Folder:
            names.append(repository)
            return Folder(tmp_path)

        problems = load_problems(name, hub=hub)
        assert names == [KNOWN[name].data.name]
        return problems

    return opened


def test_every_set_has_a_sample() -> None:
    assert SAMPLES.keys() == KNOWN.keys()


@pytest.mark.parametrize("name", KNOWN)
def test_rows_of_a_sets_shape_are_loaded_from_its_subset_and_split(load: Load, name: str) -> None:
    problems = load(name)
    assert [problem.answer for problem in problems] == SAMPLES[name].answers
    assert all(problem.row for problem in problems)


async def verdicts(name: str, problem: Problem, *texts: str) -> list[bool | None]:
    """Return whether these texts are right, as the graders of a run of the set grade them."""
    config = parse({"models": {}, "run_type": "draft", "data": {"source": name}}, "test")
    async with open_graders(config) as graders:
        solutions = [a_solution(text, problem) for text in texts]
        [known] = with_rows(config, [problem])
        return [(await graders.result(one, known, AnswerForm(False, ""))).grade.right for one in solutions]


def a_solution(text: str, problem: Problem) -> Solution:
    kept = Candidate("target", text, "end", Usage(), 0.0)
    return Solution(problem.id, problem.question, (StepRecord((kept,), 0),), "answered", 0.0, {})


def of_grader(grader: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if known.grader == grader])


@pytest.mark.slow
@pytest.mark.asyncio
@of_grader("math")
async def test_the_references_of_a_mathematics_set_are_graded_right(load: Load, name: str) -> None:
    for problem in load(name):
        texts = (f"So it is \\boxed{{{problem.answer}}}.", "So it is \\boxed{-123456}.")
        assert await verdicts(name, problem, *texts) == [True, False], problem


@pytest.mark.slow
@pytest.mark.asyncio
@of_grader("choice")
async def test_the_references_of_a_choice_set_are_graded_right_as_its_prompt_asks(load: Load, name: str) -> None:
    for problem in load(name):
        assert problem.choices
        letters = "ABCDEFGHIJ"[: len(problem.choices)]
        found = await verdicts(name, problem, *(f"I think so.\nAnswer: {letter}" for letter in letters))
        assert found == [letter == problem.answer for letter in letters], problem


@pytest.mark.slow
@pytest.mark.asyncio
@of_grader("code")
async def test_a_program_that_solves_a_problem_of_a_code_set_is_graded_right(
    load: Load, name: str, bubblewrap: None
) -> None:
    for problem, right in zip(load(name), PROGRAMS[name], strict=True):
        texts = (f"```python\n{program}\n```" for program in (right, WRONG.get(name, "def twice(number): return 5")))
        assert await verdicts(name, problem, *texts) == [True, False], problem


def test_the_prompt_of_a_choice_set_names_the_letters_that_the_question_has(load: Load) -> None:
    [tenth, _] = load("mmlu-pro")
    assert "where LETTER is one of ABCDEFGHIJ. Think step by step before answering.\n\nWhich number" in tenth.question
    assert tenth.question.endswith("\n(J) the number 10")


def test_the_prompts_of_code_sets_show_what_their_harness_shows(load: Load) -> None:
    [humaneval] = load("humaneval+")
    assert humaneval.question.endswith(
        'block:\n```python\ndef twice(number: int) -> int:\n    """Return twice the number."""\n```'
    )
    assert humaneval.row["test"].startswith("def check(")
    assert humaneval.id == "HumanEval/0"


def test_the_prompt_of_mbpp_shows_the_first_test(load: Load) -> None:
    [mbpp] = load("mbpp+")
    assert mbpp.question.endswith(
        '```python\n"""\nWrite a function to double a number.\nassert twice(2) == 4\n"""\n```'
    )


def test_the_prompt_of_livecodebench_shows_starter_code_where_there_is_some(load: Load) -> None:
    without, starting = load("livecodebench")
    assert "Question: Read a number and print twice the number.\n\nRead the inputs from stdin" in without.question
    assert starting.question.endswith("within delimiters.\n```python\nclass Solution:\n    pass\n```")


def test_a_field_that_the_user_names_leaves_the_other_fields_of_a_set(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_bytes(as_bytes([LIVECODE], ".jsonl"))
    [problem] = load_problems("livecodebench", fields=Fields(source="difficulty"), hub=lambda name: Folder(tmp_path))
    assert problem.source == "easy"
    assert "Read a number and print twice the number." in problem.question


def test_the_prompt_of_a_set_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "data" / "test.jsonl"
    path.parent.mkdir()
    path.write_bytes(as_bytes([MMLU_PRO], ".jsonl"))
    [problem] = load_problems("mmlu-pro", prompt="{question}", hub=lambda name: Folder(tmp_path))
    assert problem.question.startswith("Which number is the tenth?\n(A) the number 1\n")
