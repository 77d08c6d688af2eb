"""The guarantees of the pocket world, checked with the tests' own arithmetic."""

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.pocket import world
from arbiter.pocket.world import Kind, Operation, PocketProblem, Split
from tests.hypothesis_profiles import examples

HEAD = re.compile(r"(?P<value>\d+)(?P<kind>\+|-|\*|/|mod)(?P<operand>\d+): (?:(?P<working>\S+): )?(?P<after>\d+)\.")
DIVISION = re.compile(r"(?P<total>\d+)/(?P<by>\d+)=(?P<quotient>\d)r(?P<rest>\d+)")
ANSWER = re.compile(r"The answer is \\boxed\{(\d+)\}\.")


def drawn(seed: int, count: int, split: Split = "test") -> list[PocketProblem]:
    return list(itertools.islice(world.problems(seed, split), count))


def evaluated(sum_of_products: str) -> int:
    terms = re.findall(r"[+-]?\d+(?:\*\d+)?", sum_of_products)
    assert "".join(terms) == sum_of_products
    return sum(math.prod(int(factor) for factor in term.split("*")) for term in terms)


def applied(kind: str, value: int, operand: int) -> int:
    if kind == "mod":
        return value - value // operand * operand
    if kind == "/":
        return (value - value % operand) // operand
    return {"+": value + operand, "-": value - operand, "*": value * operand}[kind]


def check_division(working: str, value: int, operand: int, after: int) -> None:
    """Check each item of a long division, from the highest digit: the digit brought down and the remainder."""
    rest, quotient = 0, ""
    for digit, item in zip(str(value), working.split(","), strict=True):
        found = DIVISION.fullmatch(item)
        assert found is not None
        total, left = int(found["total"]), int(found["rest"])
        assert (found["total"], int(found["by"])) == (str(rest * 10 + int(digit)), operand)
        assert int(found["quotient"]) * operand + left == total
        assert left < operand
        rest, quotient = left, quotient + found["quotient"]
    assert int(quotient) == after


def check_step(step: str, value: int) -> int:
    """Check the head, the working and the result of one step from ``value``. Return the result."""
    found = HEAD.fullmatch(step)
    assert found is not None
    operand, after = int(found["operand"]), int(found["after"])
    assert int(found["value"]) == value
    assert after == applied(found["kind"], value, operand)
    assert (found["working"] is None) == (found["kind"] == "mod")
    if found["kind"] == "/":
        check_division(found["working"], value, operand, after)
    elif found["working"] is not None:
        items = [item.split("=") for item in found["working"].split(",")]
        assert all(evaluated(left) == int(right) for left, right in items)
        *lower, top = [int(right) for _, right in items]
        units = sum(total % 10 * 10**place for place, total in enumerate(lower))
        assert units + top * 10 ** len(lower) == after
    return after


def chain(problem: PocketProblem) -> tuple[int, tuple[Operation, ...]]:
    return problem.start, problem.operations


def expression(problem: PocketProblem) -> str:
    first, *others = problem.operations
    text = f"{problem.start}{first.kind}{first.operand}"
    for operation in others:
        text = f"({text}){operation.kind}{operation.operand}"
    return text


def form(problem: PocketProblem) -> str:
    return problem.question.split()[0] if problem.question.startswith(("Compute", "Start")) else "story"


SEEDS = st.integers(0, 2**32)


@given(seed=SEEDS)
def test_the_steps_of_every_problem_chain_to_its_answer(seed: int) -> None:
    for problem in drawn(seed, 5):
        value = problem.start
        for step in problem.steps[:-1]:
            value = check_step(step, value)
        boxed = ANSWER.fullmatch(problem.steps[-1])
        assert boxed is not None
        assert int(boxed[1]) == value == problem.answer


@pytest.mark.parametrize("kind", ["+", "-", "*", "/"])
@given(value=st.integers(0, 999), operand=st.integers(0, 999))
def test_the_working_of_any_operation_is_right(kind: Kind, value: int, operand: int) -> None:
    if kind == "-":
        value, operand = max(value, operand), min(value, operand)
    used = {"*": operand % 10, "/": operand % 8 + 2}.get(kind, operand)
    check_step(world.step_text(value, Operation(kind, used)), value)


@given(seed=SEEDS)
@examples(0.5)
def test_every_value_stays_within_the_worlds_numbers(seed: int) -> None:
    assert all(0 <= value <= world.LARGEST for problem in drawn(seed, 5) for value in problem.values)


@given(seed=SEEDS)
@examples(0.5)
def test_a_question_tells_every_number_of_its_chain_in_order(seed: int) -> None:
    for problem in drawn(seed, 5):
        numbers = [int(number) for number in re.findall(r"\d+", problem.question)]
        assert numbers == [problem.start, *(operation.operand for operation in problem.operations)]


@given(seed=SEEDS, split=st.sampled_from(["train", "test"]))
@examples(0.1)
def test_the_same_seed_gives_the_same_problems(seed: int, split: Split) -> None:
    assert drawn(seed, 20, split) == drawn(seed, 20, split)


def test_another_seed_gives_other_problems() -> None:
    assert {chain(problem) for problem in drawn(1, 100)} != {chain(problem) for problem in drawn(2, 100)}


def test_the_problems_of_a_seed_are_distinct() -> None:
    problems = drawn(5, 2000)
    assert len({chain(problem) for problem in problems}) == len(problems)


@pytest.mark.slow
def test_train_and_test_share_no_problem() -> None:
    train = {chain(problem) for seed in range(4) for problem in drawn(seed, 4000, "train")}
    test = {chain(problem) for seed in range(4) for problem in drawn(seed, 2000, "test")}
    assert min(len(train), len(test)) > 7000
    assert train & test == set()


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_split_does_not_depend_on_how_a_problem_is_asked(split: Split) -> None:
    problems = drawn(9, 300, split)
    assert {form(problem) for problem in problems} == {"Compute", "Start", "story"}
    assert {world.split_of(expression(problem)) for problem in problems} == {split}


def test_one_chain_in_five_is_for_testing() -> None:
    splits = [world.split_of(f"{start}+{operand}") for start in range(100) for operand in range(100)]
    assert splits.count("test") / len(splits) == pytest.approx(0.2, abs=0.02)


def test_a_kind_without_weight_never_comes() -> None:
    weights: world.Weights = {"+": 1.0, "-": 1.0, "*": 0.0, "mod": 0.0}
    problems = itertools.islice(world.problems(1, "train", weights), 50)
    assert {operation.kind for problem in problems for operation in problem.operations} == {"+", "-"}


def test_all_steps_of_the_right_solution_are_right() -> None:
    problem = drawn(1, 1)[0]
    assert set(problem.right_steps(problem.steps)) == {True}


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_the_first_wrong_step_and_all_behind_it_are_wrong(wrong: int) -> None:
    problem = next(problem for problem in drawn(1, 50) if len(problem.steps) >= 3)
    steps = [*problem.steps[:wrong], "1+1: 1+1=3: 3.", *problem.steps[wrong + 1 :]]
    assert problem.right_steps(steps) == tuple(index < wrong for index in range(len(steps)))


def test_a_step_behind_the_answer_is_wrong() -> None:
    problem = drawn(1, 1)[0]
    assert problem.right_steps([*problem.steps, problem.steps[-1]])[-2:] == (True, False)


def test_space_around_a_step_does_not_make_it_wrong() -> None:
    problem = drawn(1, 1)[0]
    assert problem.right_steps([f" {problem.steps[0]}\n"]) == (True,)
