"""The world of short programs: Python programs that change a list of words. A program can check every step.

A problem is a list of words, a chain of changes, and what is asked of the list at the end. It can be read in two ways:

- as a program whose output is asked for. Its solution has one step per statement, with the list after it, and a last
  step that boxes the output, which is a word or a list of words;
- as the description of a function to write, with tests.
"""

import random
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

import msgspec

from arbiter.pocket.world import Split, final_step

Kind = Literal["append", "insert", "drop-first", "drop-last", "sort", "reverse", "longer", "turn", "replace", "swap"]
Asked = Literal["list", "first", "last", "initials"]

KINDS: tuple[Kind, ...] = (
    "append",
    "insert",
    "drop-first",
    "drop-last",
    "sort",
    "reverse",
    "longer",
    "turn",
    "replace",
    "swap",
)
ASKED: tuple[Asked, ...] = ("list", "first", "last", "initials")
WORDS = (
    *("boat", "bridge", "cat", "cup", "drum", "fox", "garden", "hat", "island", "jar", "kite", "lamp", "lemon", "map"),
    *("mouse", "needle", "owl", "pear", "pencil", "queen", "ring", "river", "salt", "spoon", "tree", "window"),
)
VOWELS = "aeiou"
TESTS = 4
_DRAWS = 50  # of lists to test a function with, at most

_STATEMENTS: dict[Kind, str] = {
    "append": 'words.append("{operand}")',
    "insert": 'words.insert(0, "{operand}")',
    "drop-first": "words.pop(0)",
    "drop-last": "words.pop()",
    "sort": "words.sort()",
    "reverse": "words.reverse()",
    "longer": "words = [word for word in words if len(word) > {operand}]",
    "turn": "words = [word[::-1] for word in words]",
    "replace": 'words = [word.replace("{operand[0]}", "{operand[1]}") for word in words]',
    "swap": "words[0], words[-1] = words[-1], words[0]",
}
_INSTRUCTIONS: dict[Kind, str] = {
    "append": 'Add "{operand}" at the end.',
    "insert": 'Add "{operand}" at the beginning.',
    "drop-first": "Remove the first word.",
    "drop-last": "Remove the last word.",
    "sort": "Sort the words by the alphabet.",
    "reverse": "Reverse the order of the words.",
    "longer": "Keep only the words with more than {operand} letters.",
    "turn": "Write each word backwards.",
    "replace": 'Replace each "{operand[0]}" in a word by "{operand[1]}".',
    "swap": "Swap the first and the last word.",
}
_EXPRESSIONS: dict[Asked, tuple[str, str]] = {
    "list": ('", ".join(words)', "words"),
    "first": ("words[0]", "words[0]"),
    "last": ("words[-1]", "words[-1]"),
    "initials": ('"".join(word[0] for word in words)', '"".join(word[0] for word in words)'),
}
"""What is printed, and what a function returns."""
_RETURNS: dict[Asked, str] = {
    "list": "the list",
    "first": "the first word",
    "last": "the last word",
    "initials": "the first letters of all words as one text",
}


class Change(msgspec.Struct, frozen=True):
    """One change of a list of words. ``operand`` is a word, two letters or a length; empty if the kind has none."""

    kind: Kind
    operand: str = ""

    def apply(self, words: Sequence[str]) -> tuple[str, ...]:
        """Return the list after the change."""
        match self.kind:
            case "append":
                return *words, self.operand
            case "insert":
                return self.operand, *words
            case "drop-first":
                return tuple(words[1:])
            case "drop-last":
                return tuple(words[:-1])
            case "sort":
                return tuple(sorted(words))
            case "reverse":
                return tuple(reversed(words))
            case "longer":
                return tuple(word for word in words if len(word) > int(self.operand))
            case "turn":
                return tuple(word[::-1] for word in words)
            case "replace":
                return tuple(word.replace(self.operand[0], self.operand[1]) for word in words)
            case "swap":
                return words[-1], *words[1:-1], words[0]

    @property
    def statement(self) -> str:
        """The change as a statement of Python."""
        return _STATEMENTS[self.kind].format(operand=self.operand)

    @property
    def instruction(self) -> str:
        """The change as a sentence."""
        return _INSTRUCTIONS[self.kind].format(operand=self.operand)


class ProgramProblem(msgspec.Struct, frozen=True):
    """A short program with its only right output. ``test_lists`` are further lists, to test a function with."""

    words: tuple[str, ...]
    changes: tuple[Change, ...]
    asked: Asked
    test_lists: tuple[tuple[str, ...], ...]

    @property
    def program(self) -> str:
        """The program, which prints the answer."""
        statements = (change.statement for change in self.changes)
        return "\n".join([f"words = {_listed(self.words)}", *statements, f"print({_EXPRESSIONS[self.asked][0]})"])

    @property
    def question(self) -> str:
        """The question for the output of the program."""
        return f"What does this program print?\n\n```python\n{self.program}\n```"

    @property
    def answer(self) -> str:
        """The output: a word, or words with commas between them."""
        result = _result(self.asked, changed(self.words, self.changes))
        return result if isinstance(result, str) else ", ".join(result)

    @property
    def steps(self) -> tuple[str, ...]:
        """The right solution of ``question``, one text per step, without separators."""
        steps: list[str] = []
        words = self.words
        for change in self.changes:
            words = change.apply(words)
            steps.append(f"`{change.statement}`: {', '.join(words)}.")
        return *steps, final_step(self.answer)

    @property
    def task(self) -> str:
        """The question for a function that does the same."""
        instructions = "\n".join(f"{number}. {change.instruction}" for number, change in enumerate(self.changes, 1))
        return (
            "Write the Python function change(words). It receives a list of words, makes these changes in turn, and "
            f"then returns {_RETURNS[self.asked]}:\n\n{instructions}"
        )

    @property
    def function(self) -> str:
        """A right function for ``task``."""
        body = [*(change.statement for change in self.changes), f"return {_EXPRESSIONS[self.asked][1]}"]
        return "\n    ".join(["def change(words):", *body])

    @property
    def tests(self) -> tuple[str, ...]:
        """Assertions that a right function keeps."""
        return tuple(
            f"assert change({_listed(words)}) == {_written(_result(self.asked, changed(words, self.changes)))}"
            for words in (self.words, *self.test_lists)
        )


def changed(words: Sequence[str], changes: Sequence[Change]) -> tuple[str, ...]:
    """Return ``words`` after all ``changes``."""
    for change in changes:
        words = change.apply(words)
    return tuple(words)


def program_problems(seed: int, split: Split = "test") -> Iterator[ProgramProblem]:
    """Yield distinct problems of ``split`` without end, the same for the same seed.

    The splits share no program: a hash of its statements decides its split.
    """
    rng, seen = random.Random(f"pocket-programs:{split}:{seed}"), set[str]()
    while True:
        problem = _drawn(rng)
        is_unchanged = changed(problem.words, problem.changes) == problem.words
        if not is_unchanged and problem.program not in seen and _split_of(problem) == split:
            seen.add(problem.program)
            yield problem


def _split_of(problem: ProgramProblem) -> Split:
    """Return the split of a chain of changes, whatever its list. One in five is for testing."""
    chain = "\n".join(change.statement for change in problem.changes)
    return "test" if zlib.crc32(chain.encode()) % 5 == 0 else "train"


def _drawn(rng: random.Random) -> ProgramProblem:
    words = tuple(rng.sample(WORDS, rng.randint(3, 5)))
    changes: list[Change] = []
    state, length = words, rng.randint(2, 5)
    while len(changes) < length:
        change = _change(rng, state)
        after = change.apply(state)
        is_repeated = bool(changes) and changes[-1].kind == change.kind
        if len(after) >= 2 and after != state and not is_repeated:
            changes.append(change)
            state = after
    drawn = (tuple(rng.sample(WORDS, rng.randint(4, 6))) for _ in range(_DRAWS))
    lists = tuple(islice((other for other in drawn if _is_defined(other, changes)), TESTS - 1))
    return ProgramProblem(words, tuple(changes), rng.choice(ASKED), lists)


def _change(rng: random.Random, state: Sequence[str]) -> Change:
    kind = rng.choice(KINDS)
    match kind:
        case "append" | "insert":
            return Change(kind, rng.choice([word for word in WORDS if word not in state]))
        case "longer":
            return Change(kind, str(rng.randint(3, 5)))
        case "replace":
            return Change(kind, "".join(rng.sample(VOWELS, 2)))
        case _:
            return Change(kind)


def _is_defined(words: Sequence[str], changes: Sequence[Change]) -> bool:
    """Return whether the list stays long enough for each change, and for what is asked at the end."""
    for change in changes:
        words = change.apply(words)
        if len(words) < 2:
            return False
    return True


def _result(asked: Asked, words: Sequence[str]) -> str | list[str]:
    match asked:
        case "list":
            return list(words)
        case "first":
            return words[0]
        case "last":
            return words[-1]
        case "initials":
            return "".join(word[0] for word in words)


def _listed(words: Sequence[str]) -> str:
    return f"[{', '.join(map(_quoted, words))}]"


def _written(result: str | list[str]) -> str:
    return _quoted(result) if isinstance(result, str) else _listed(result)


def _quoted(word: str) -> str:
    return f'"{word}"'
