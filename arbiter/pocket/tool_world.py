"""The world of tools: questions that need a table and a calculator. A program can check every call.

A problem asks for a number that is calculated from the prices, weights or stocks of things. The question does not tell
them: a tool looks them up, and another one calculates. There is one right conversation, with one call per turn in the
order of the question, and a last turn that boxes the answer.
"""

import random
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from arbiter.pocket.world import LARGEST, Split, final_step
from arbiter.protocols.tools import ToolCall

Table = Literal["price", "weight", "stock"]
Kind = Literal["multiply", "divide", "add", "subtract"]
Form = Literal["instructions", "story"]

TABLES: tuple[Table, ...] = ("price", "weight", "stock")
KINDS: tuple[Kind, ...] = ("multiply", "divide", "add", "subtract")
FORMS: tuple[Form, ...] = ("instructions", "story")

SYSTEM = (
    "Answer with the help of the tools. Call one tool per turn, in the order of the question: look up a number when it "
    "is needed, and calculate with it in the next turn. Put the final answer into \\boxed{}."
)

_THINGS = (
    *(
        "boat",
        "cup",
        "drum",
        "hat",
        "jar",
        "kite",
        "lamp",
        "lemon",
        "map",
        "needle",
        "orange",
        "pear",
        "pencil",
        "ring",
    ),
    *("spoon", "table", "umbrella", "window"),
)
_SIGNS: Mapping[Kind, str] = {"multiply": "*", "divide": "/", "add": "+", "subtract": "-"}
_NAMES: Mapping[Table, str] = {"price": "the price of", "weight": "the weight of", "stock": "the stock of"}
_SENTENCES: Mapping[Form, Mapping[Kind, str]] = {
    "instructions": {
        "multiply": "Multiply the result by {operand}.",
        "divide": "Divide the result by {operand}.",
        "add": "Add {operand}.",
        "subtract": "Subtract {operand}.",
    },
    "story": {
        "multiply": "There are {operand} rooms, and each one has as much.",
        "divide": "{operand} people share all this equally, and only one of them keeps a share.",
        "add": "What comes on top is {operand}.",
        "subtract": "What is taken off is {operand}.",
    },
}
_FRAMES: Mapping[Form, tuple[str, str]] = {
    "instructions": ("Start with {operand}.", "What is the result?"),
    "story": ("A list begins with {operand}.", "How much is it in the end?"),
}

TOOLS: tuple[Mapping[str, Any], ...] = (
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Return a number about a thing.",
            "parameters": {
                "type": "object",
                "properties": {"table": {"enum": [*TABLES]}, "thing": {"type": "string"}},
                "required": ["table", "thing"],
                "additionalProperties": False,
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "calculate",
            "description": "Return the result of one operation on two whole numbers.",
            "parameters": {
                "type": "object",
                "properties": {
                    "left": {"type": "integer"},
                    "operation": {"enum": [*_SIGNS.values()]},
                    "right": {"type": "integer"},
                },
                "required": ["left", "operation", "right"],
                "additionalProperties": False,
            },
        },
    },
)
"""The tools that a question offers, in OpenAI's form."""


class ToolOperation(msgspec.Struct, frozen=True):
    """One operation of a question. ``operand`` is a number, or the thing whose number is looked up."""

    kind: Kind
    operand: int | str


class ToolProblem(msgspec.Struct, frozen=True):
    """A question with its only right conversation. ``numbers`` has the number of each thing in the table."""

    table: Table
    thing: str
    operations: tuple[ToolOperation, ...]
    numbers: Mapping[str, int]
    form: Form

    @property
    def question(self) -> str:
        opening, end = _FRAMES[self.form]
        sentences = [opening.format(operand=self._described(self.thing))]
        for operation in self.operations:
            operand = operation.operand
            described = self._described(operand) if isinstance(operand, str) else operand
            sentences.append(_SENTENCES[self.form][operation.kind].format(operand=described))
        return " ".join([*sentences, end])

    def _described(self, thing: str) -> str:
        return f"{_NAMES[self.table]} {'an' if thing[0] in 'aeiou' else 'a'} {thing}"

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The right calls, one per turn."""
        value, called = self.numbers[self.thing], [self._looked_up(self.thing)]
        for operation in self.operations:
            operand, sign = operation.operand, _SIGNS[operation.kind]
            if isinstance(operand, str):
                called.append(self._looked_up(operand))
                operand = self.numbers[operand]
            called.append(("calculate", {"left": value, "operation": sign, "right": operand}))
            value = calculated(sign, value, operand)
        return tuple(
            ToolCall(f"call_{number}", name, msgspec.json.encode(arguments).decode())
            for number, (name, arguments) in enumerate(called, 1)
        )

    def _looked_up(self, thing: str) -> tuple[str, dict[str, Any]]:
        return "look_up", {"table": self.table, "thing": thing}

    @property
    def answer(self) -> str:
        """The result of the last right call."""
        return self.result(self.calls[-1])

    def result(self, call: ToolCall) -> str:
        """Return the result of a call whose arguments fit the schema of its tool: a number, or what is wrong."""
        given = msgspec.json.decode(call.arguments)
        if call.name == "look_up":
            if given["table"] != self.table or given["thing"] not in self.numbers:
                return f"error: there is no {given['table']} of {given['thing']}"
            return str(self.numbers[given["thing"]])
        if given["operation"] == "/" and given["right"] == 0:
            return "error: a division by zero"
        return str(calculated(given["operation"], given["left"], given["right"]))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row of data for each turn: the conversation before it, and the right turn as its last message."""
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": self.question},
        ]
        for call in self.calls:
            called = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            messages.append({"role": "assistant", "content": "", "tool_calls": [called]})
            yield _row(messages)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": self.result(call)})
        messages.append({"role": "assistant", "content": final_step(self.answer)})
        yield _row(messages)


def calculated(sign: str, left: int, right: int) -> int:
    """Return the result of an operation by its sign. A quotient is rounded down."""
    match sign:
        case "*":
            return left * right
        case "/":
            return left // right
        case "+":
            return left + right
        case _:
            return left - right


def _row(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"messages": [*messages], "tools": [*TOOLS], "parallel_tool_calls": False}


def tool_problems(seed: int, split: Split = "test") -> Iterator[ToolProblem]:
    """Yield distinct problems of ``split`` without end, the same for the same seed.

    The splits share no question: a hash of the table, the things and the operations decides the split.
    """
    rng, seen = random.Random(f"pocket-tools:{split}:{seed}"), set[str]()
    while True:
        problem = _drawn(rng)
        chain = repr((problem.table, problem.thing, problem.operations))
        if chain not in seen and _split_of(chain) == split:
            seen.add(chain)
            yield problem


def _split_of(chain: str) -> Split:
    """Return the split of a chain of operations, whatever the numbers. One in five is for testing."""
    return "test" if zlib.crc32(chain.encode()) % 5 == 0 else "train"


def _drawn(rng: random.Random) -> ToolProblem:
    things = rng.sample(_THINGS, 6)
    numbers = {thing: rng.randint(2, 199) for thing in things}
    start, *others = things
    operations: list[ToolOperation] = []
    value, length = numbers[start], rng.randint(1, 3)
    while len(operations) < length:
        kind = rng.choice(KINDS)
        operands = _operands(kind, value, others, numbers)
        if operands:
            operand = rng.choice(operands)
            operations.append(ToolOperation(kind, operand))
            if isinstance(operand, str):
                others.remove(operand)  # nothing is looked up twice, so that the order of the calls is certain
            value = calculated(_SIGNS[kind], value, numbers[operand] if isinstance(operand, str) else operand)
    return ToolProblem(rng.choice(TABLES), start, tuple(operations), numbers, rng.choice(FORMS))


def _operands(kind: Kind, value: int, things: list[str], numbers: Mapping[str, int]) -> list[int] | list[str]:
    """Return the operands that keep the value a whole number from 1 to ``LARGEST``. May be empty."""
    match kind:
        case "multiply":
            return [*range(2, min(9, LARGEST // value) + 1)]
        case "divide":
            return [operand for operand in range(2, 10) if value % operand == 0]
        case "add":
            return [thing for thing in things if value + numbers[thing] <= LARGEST]
        case "subtract":
            return [thing for thing in things if numbers[thing] < value]
