"""The pocket world: multi-step arithmetic problems. A program can check every step.

A problem is a start value and a chain of operations, written as an expression, as instructions or as a story. Its
solution has one step per operation, each with its digit-by-digit working, and a last step that boxes the answer.

The training of the draft and the target makes three kinds of step:

- addition and subtraction: both models are right;
- multiplication by one digit: mostly only the target is right;
- division by one digit and remainders: neither is right, so calling the target is a waste. Neither model was taught
  division. Both guess remainders, since those show no working.
"""

import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

SEPARATOR = "\n\n"
PROMPT = "Problem: {question}\nSolution:\n"
LARGEST = 999

Kind = Literal["+", "-", "*", "/", "mod"]
Form = Literal["expression", "instructions", "story"]
Split = Literal["train", "test"]

Weights = Mapping[Kind, float]

KIND_WEIGHTS: Weights = {"+": 0.26, "-": 0.26, "*": 0.26, "/": 0.17, "mod": 0.05}
FORMS: tuple[Form, ...] = ("expression", "instructions", "story")
NAMES = ("Ann", "Bob", "Eva", "Tom", "Mia", "Sam", "Lea", "Max")
ITEMS = ("coins", "apples", "cards", "stamps", "shells", "books", "beads", "marbles")


class Operation(msgspec.Struct, frozen=True):
    """One operation of a chain: it combines the running value with ``operand``."""

    kind: Kind
    operand: int

    def apply(self, value: int) -> int:
        match self.kind:
            case "+":
                return value + self.operand
            case "-":
                return value - self.operand
            case "*":
                return value * self.operand
            case "/":
                return value // self.operand
            case "mod":
                return value % self.operand


class PocketProblem(msgspec.Struct, frozen=True):
    """A question of the pocket world with its only right solution."""

    start: int
    operations: tuple[Operation, ...]
    question: str

    @property
    def values(self) -> tuple[int, ...]:
        """Return the running value before each operation, and the answer at the end."""
        values = [self.start]
        for operation in self.operations:
            values.append(operation.apply(values[-1]))
        return tuple(values)

    @property
    def answer(self) -> int:
        return self.values[-1]

    @property
    def steps(self) -> tuple[str, ...]:
        """Return the right solution, one text per step, without separators."""
        pairs = zip(self.values, self.operations, strict=False)
        return *(step_text(value, operation) for value, operation in pairs), final_step(self.answer)

    def right_steps(self, steps: Sequence[str]) -> tuple[bool, ...]:
        """Return for each of ``steps`` whether it and all steps before it are right."""
        right, so_far = self.steps, True
        verdicts: list[bool] = []
        for index, step in enumerate(steps):
            so_far = so_far and index < len(right) and step.strip() == right[index]
            verdicts.append(so_far)
        return tuple(verdicts)


def step_text(value: int, operation: Operation) -> str:
    """Return the step that applies ``operation`` to ``value``, with its working.

    The working starts at the lowest digit, in division at the highest.
    """
    head = f"{value}{operation.kind}{operation.operand}"
    working = ",".join(_working(value, operation))
    return f"{head}: {working}: {operation.apply(value)}." if working else f"{head}: {operation.apply(value)}."


def final_step(answer: object) -> str:
    """Return the step that boxes the answer and ends the solution."""
    return f"The answer is \\boxed{{{answer}}}."


def _working(value: int, operation: Operation) -> Iterator[str]:
    match operation.kind:
        case "+":
            return _added(value, operation.operand)
        case "-":
            return _subtracted(value, operation.operand)
        case "*":
            return _multiplied(value, operation.operand)
        case "/":
            return _divided(value, operation.operand)
        case "mod":
            return iter(())


def _digits(number: int, width: int = 1) -> list[int]:
    return [int(digit) for digit in reversed(str(number).zfill(width))]


def _added(value: int, operand: int) -> Iterator[str]:
    width, carry = max(len(str(value)), len(str(operand))), 0
    for a, b in zip(_digits(value, width), _digits(operand, width), strict=True):
        total = a + b + carry
        yield f"{a}+{b}{'+1' if carry else ''}={total}"
        carry = total // 10


def _subtracted(value: int, operand: int) -> Iterator[str]:
    width, borrow = max(len(str(value)), len(str(operand))), 0
    for a, b in zip(_digits(value, width), _digits(operand, width), strict=True):
        rest = a - b - borrow
        yield f"{a}-{b}{'-1' if borrow else ''}{'+10' if rest < 0 else ''}={rest % 10}"
        borrow = int(rest < 0)


def _multiplied(value: int, operand: int) -> Iterator[str]:
    carry = 0
    for digit in _digits(value):
        total = digit * operand + carry
        yield f"{digit}*{operand}{f'+{carry}' if carry else ''}={total}"
        carry = total // 10


def _divided(value: int, operand: int) -> Iterator[str]:
    rest = 0
    for digit in reversed(_digits(value)):
        total = 10 * rest + digit
        rest = total % operand
        yield f"{total}/{operand}={total // operand}r{rest}"


def problems(seed: int, split: Split = "test", weights: Weights = KIND_WEIGHTS) -> Iterator[PocketProblem]:
    """Yield distinct problems of ``split`` without end, the same for the same seed.

    ``weights`` gives the relative frequency of each kind of operation. The splits share no problem: a hash of the
    chain of operations decides its split.
    """
    rng, seen = random.Random(f"pocket:{split}:{seed}"), set[str]()
    while True:
        start, operations = _chain(rng, weights)
        expression = _expression(start, operations)
        if expression in seen or split_of(expression) != split:
            continue
        seen.add(expression)
        question = _phrase(rng, rng.choice(FORMS), start, operations)
        yield PocketProblem(start=start, operations=operations, question=question)


def split_of(expression: str) -> Split:
    """Return the split of a chain of operations, whatever its wording. One in five is for testing."""
    return "test" if zlib.crc32(expression.encode()) % 5 == 0 else "train"


def _chain(rng: random.Random, weights: Weights) -> tuple[int, tuple[Operation, ...]]:
    start = value = rng.randint(11, 199)
    operations: list[Operation] = []
    length = rng.randint(2, 5)
    while len(operations) < length:
        kind = rng.choices(tuple(weights), tuple(weights.values()))[0]
        operands = _operands(kind, value)
        if not operands:
            continue
        operations.append(Operation(kind, rng.choice(operands)))
        value = operations[-1].apply(value)
    return start, tuple(operations)


def _operands(kind: Kind, value: int) -> Sequence[int]:
    """Return the operands that keep the running value a whole number from 0 to ``LARGEST``. May be empty."""
    match kind:
        case "+":
            return range(11, min(499, LARGEST - value) + 1)
        case "-":
            return range(11, value - 1)
        case "*":
            return range(2, min(9, LARGEST // max(value, 12)) + 1)
        case "/":
            return [operand for operand in range(2, 10) if value >= 20 and value % operand == 0]
        case "mod":
            return range(13, 50 if value >= 100 else 13)


def _expression(start: int, operations: Sequence[Operation]) -> str:
    text = str(start)
    for index, operation in enumerate(operations):
        inner = f"({text})" if index else text
        text = f"{inner}{operation.kind}{operation.operand}"
    return text


def _phrase(rng: random.Random, form: Form, start: int, operations: Sequence[Operation]) -> str:
    match form:
        case "expression":
            return f"Compute {_expression(start, operations)}."
        case "instructions":
            verbs = {"+": "Add", "-": "Subtract", "*": "Multiply by", "/": "Divide by", "mod": "Take the remainder by"}
            instructions = " ".join(f"{verbs[operation.kind]} {operation.operand}." for operation in operations)
            return f"Start with {start}. {instructions} What is the result?"
        case "story":
            return _story(rng, start, operations)


def _story(rng: random.Random, start: int, operations: Sequence[Operation]) -> str:
    name, items = rng.choice(NAMES), rng.choice(ITEMS)
    phrases = {
        "+": ("{name} finds {n} more.", "{name} buys {n} more.", "A friend brings {n} more."),
        "-": ("{name} loses {n}.", "{name} gives away {n}.", "{name} sells {n}."),
        "*": ("A wizard makes it {n} times as many.", "Then the number grows {n} times."),
        "/": (
            "{name} packs {n} equal boxes and keeps one of them.",
            "{name} shares them fairly among {n} and keeps one part.",
        ),
        "mod": ("{name} packs bags of {n} and keeps only what is left over.",),
    }
    sentences = " ".join(
        rng.choice(phrases[operation.kind]).format(name=name, n=operation.operand) for operation in operations
    )
    return f"{name} has {start} {items}. {sentences} How many {items} does {name} have now?"
