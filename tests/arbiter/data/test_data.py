"""Sources of problems, and the errors of faulty files."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from arbiter.data import file_rows
from arbiter.data.known_sets import KNOWN
from arbiter.data.loading import Fields, Problem, load_problems
from arbiter.grading.answers import Reference
from arbiter.pocket import world
from arbiter.pocket.program_world import program_problems
from arbiter.protocols.errors import ConfigError, DataError


def written(folder: Path, *lines: str) -> str:
    path = folder / "problems.jsonl"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


def rowless(problems: list[Problem]) -> list[Problem]:
    return [msgspec.structs.replace(problem, row={}) for problem in problems]


def refusal(source: str, limit: int | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_problems(source, limit)
    return str(caught.value)


def test_pocket_alone_is_the_first_seed() -> None:
    assert load_problems("pocket", 20) == load_problems("pocket:1", 20)


def test_pocket_problems_are_the_worlds_test_problems_of_that_seed() -> None:
    drawn = world.problems(7, "test")
    assert load_problems("pocket:7", 3) == [
        Problem(f"pocket-7-{index}", problem.question, str(problem.answer))
        for index, problem in zip(range(3), drawn, strict=False)
    ]


def test_pocket_without_a_limit_is_two_hundred_problems() -> None:
    assert len({problem.id for problem in load_problems("pocket:3", None)}) == 200


def test_the_worlds_of_programs_have_the_same_programs_as_questions_and_as_tasks() -> None:
    programs, functions = load_problems("pocket-programs:7", 3), load_problems("pocket-functions:7", 3)
    drawn = list(islice(program_problems(7), 3))
    assert programs == [
        Problem(f"pocket-programs-7-{index}", problem.question, problem.answer) for index, problem in enumerate(drawn)
    ]
    assert [(problem.id, problem.question, problem.answer, problem.row["test_list"]) for problem in functions] == [
        (f"pocket-functions-7-{index}", problem.task, None, [*problem.tests]) for index, problem in enumerate(drawn)
    ]


@pytest.mark.parametrize("seed", ["one", "1.5", "1:2"])
def test_a_pocket_seed_that_is_no_whole_number_is_refused_by_name(seed: str) -> None:
    assert refusal(f"pocket:{seed}") == f"pocket:{seed}: the seed must be a whole number, as in pocket:1"


def test_a_limit_takes_the_first_problems_of_a_file(tmp_path: Path) -> None:
    source = written(tmp_path, *(f'{{"id": {n}, "question": "q{n}"}}' for n in range(5)))
    assert [problem.question for problem in load_problems(source, 2)] == ["q0", "q1"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"question": "q", "answer": "a"}', Problem("1", "q", "a")),
        ('{"problem": "q", "solution": "s", "answer": "a"}', Problem("1", "q", "a")),
        ('{"question": "q", "final_answer": "a"}', Problem("1", "q", "a")),
        ('{"question": "q"}', Problem("1", "q", None)),
        ('{"question": "q", "answer": null}', Problem("1", "q", None)),
        ('{"id": 16, "question": "q"}', Problem("16", "q", None)),
        ('{"unique_id": "test/1.json", "question": "q"}', Problem("test/1.json", "q", None)),
    ],
)
def test_a_row_is_read_by_the_names_that_benchmarks_use(tmp_path: Path, line: str, problem: Problem) -> None:
    assert rowless(load_problems(written(tmp_path, line), None)) == [problem]


@pytest.mark.parametrize(("number", "answer"), [("42", "42"), ("-3", "-3"), ("0", "0"), ("0.5", "0.5")])
def test_a_numeric_answer_is_taken_as_it_is_written(tmp_path: Path, number: str, answer: str) -> None:
    [problem] = load_problems(written(tmp_path, f'{{"question": "q", "answer": {number}}}'), None)
    assert problem.answer == answer


def test_a_list_of_one_answer_is_that_answer(tmp_path: Path) -> None:
    [problem] = load_problems(written(tmp_path, '{"question": "q", "final_answer": ["2"]}'), None)
    assert problem.answer == "2"


def test_a_row_without_an_id_has_the_number_of_its_line(tmp_path: Path) -> None:
    source = written(tmp_path, "", '{"question": "q"}', "  ", '{"question": "q"}')
    assert [problem.id for problem in load_problems(source, None)] == ["2", "4"]


@pytest.mark.parametrize("line", ["{", "[1]", "3", '"text"', '{"question": "q"} more', "\\xff"])
def test_a_row_that_is_no_json_object_names_the_file_and_the_line(tmp_path: Path, line: str) -> None:
    source = written(tmp_path, '{"question": "q"}', line)
    assert refusal(source).startswith(f"{source}, line 2: not a JSON object: ")


def test_a_row_that_is_not_utf8_names_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_bytes(b'{"question": "\xff"}\n')
    assert refusal(str(path)).startswith(f"{path}, line 1: ")


@pytest.mark.parametrize(
    ("line", "there"),
    [("{}", "none"), ('{"question": 5}', "question"), ('{"text": "q", "reply": "a"}', "text, reply")],
)
def test_a_row_without_a_question_names_the_line_the_fields_and_the_way_out(
    tmp_path: Path, line: str, there: str
) -> None:
    source = written(tmp_path, line)
    assert refusal(source) == (
        f"{source}, line 1: there is no question in any of the fields question, problem, input, prompt, content. "
        f'Fields here: {there}; name the right one in the configuration: [data] fields = {{question = "…"}}'
    )


@pytest.mark.parametrize("line", ['{"question": ""}', '{"problem": " \\n"}'])
def test_an_empty_question_is_told_with_its_place(tmp_path: Path, line: str) -> None:
    source = written(tmp_path, '{"question": "q"}', line)
    assert refusal(source) == f"{source}, line 2: the question is empty: fill it in, or remove the row"


def test_fields_of_other_names_are_read_as_they_are_mapped(tmp_path: Path) -> None:
    source = written(tmp_path, '{"text": "q", "reply": 3, "key": "k", "question": "other"}')
    fields = Fields(question="text", answer="reply", id="key")
    assert rowless(load_problems(source, fields=fields)) == [Problem("k", "q", "3")]


def test_a_mapped_field_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    source = written(tmp_path, '{"text": "q"}')
    with pytest.raises(DataError) as caught:
        load_problems(source, fields=Fields(question="text", answer="reply"))
    beginning = f"{source}, line 1: there is no field 'reply', which data.fields names. Fields here: text; "
    assert str(caught.value).startswith(beginning)


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_rows, "LONGEST_LINE", 1 << 20)
    path = tmp_path / "problems.jsonl"
    path.write_bytes(b"{" + b"x" * (1 << 20))
    assert refusal(str(path)) == f"{path}, line 1: longer than 1 MiB; a JSONL file has one object per line"


def test_a_duplicate_id_names_both_lines(tmp_path: Path) -> None:
    source = written(tmp_path, '{"id": "a", "question": "q"}', '{"question": "q"}', '{"id": "a", "question": "r"}')
    assert refusal(source) == (
        f"{source}, line 3: the id 'a' is already used in {source}, line 1: give each problem its own id"
    )


@pytest.mark.parametrize("lines", [(), ("", "  ")])
def test_a_file_without_a_problem_is_named(tmp_path: Path, lines: tuple[str, ...]) -> None:
    source = written(tmp_path, *lines)
    assert refusal(source) == f"{source} contains no problem"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    source = str(tmp_path / "nowhere.jsonl")
    assert refusal(source) == (
        f"cannot read the problems in {source!r}: No such file or directory; known names: pocket, pocket-train, "
        f"pocket-programs, pocket-functions, pocket-tools, champ, {', '.join(KNOWN)}, and OWNER/NAME of the Hugging "
        "Face hub"
    )


def test_a_prompt_is_put_around_each_question(tmp_path: Path) -> None:
    source = written(tmp_path, '{"question": "Is {question} here?"}', '{"question": "r", "choices": ["x", "y"]}')
    problems = load_problems(source, prompt="Say why.\n{question}\nGo.")
    assert problems[0].question == "Say why.\nIs {question} here?\nGo."
    assert problems[1].question == "Say why.\nr\n(A) x\n(B) y\nGo."


def test_a_prompt_names_the_letters_of_the_choices_and_no_other_field(tmp_path: Path) -> None:
    source = written(tmp_path, '{"question": "{letters}?", "choices": ["x", "y", "z"], "answer": "A"}')
    [problem] = load_problems(source, prompt="One of {letters}, in \\boxed{answer}: {question}")
    assert problem.question == "One of ABC, in \\boxed{answer}: {letters}?\n(A) x\n(B) y\n(C) z"


def test_a_prompt_is_put_around_the_problems_of_the_pocket_world() -> None:
    [alone], [prompted] = load_problems("pocket", 1), load_problems("pocket", 1, prompt="Solve: {question}")
    assert (prompted.question, prompted.answer) == (f"Solve: {alone.question}", alone.answer)
    with pytest.raises(ConfigError, match=r"data.prompt is 'Think.': write \{question\}"):
        load_problems("pocket", 1, prompt="Think.")


def test_a_prompt_without_a_place_for_the_question_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.prompt is 'Think.': write \{question\} where the question belongs"):
        load_problems(written(tmp_path, '{"question": "q"}'), prompt="Think.")


def test_a_folder_without_data_is_told_with_what_arbiter_reads(tmp_path: Path) -> None:
    assert refusal(str(tmp_path)) == (
        f"the data set {str(tmp_path)!r} has no file of data that Arbiter reads "
        "(.parquet, .jsonl, .ndjson, .json, .csv, .tsv)"
    )


def test_math500_is_read_as_it_is(real_data: Callable[[str], Path]) -> None:
    path = real_data("math500.jsonl")
    rows = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    expected = [Problem(row["unique_id"], row["problem"], row["answer"]) for row in rows]
    assert rowless(load_problems(str(path), None)) == expected


def test_olympiadbench_questions_are_read_as_they_are(real_data: Callable[[str], Path]) -> None:
    path = real_data("olympiadbench.jsonl")
    rows = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    read = [(problem.id, problem.question) for problem in load_problems(str(path), None)]
    assert read == [(str(row["id"]), row["question"]) for row in rows]


def test_an_olympiadbench_answer_carries_what_grading_needs(real_data: Callable[[str], Path]) -> None:
    answers = {problem.id: problem.answer for problem in load_problems(str(real_data("olympiadbench.jsonl")))}
    assert answers["1606"] == "2"
    assert answers["1664"] == Reference(("69", "84"))
    assert answers["2426"] == Reference(("$\\frac{600}{7}$",), unit="km/h")
    assert answers["2592"] == Reference(("4.2",), unit="%", tolerance=(0.1,))
    assert sum(isinstance(answer, Reference) for answer in answers.values()) < 110
