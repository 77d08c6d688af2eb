r"""Measure how often the grader is right, what it costs, and whether its verdicts depend on the load of the machine.

    python benchmarks/grading.py [--pairs FILE] [--data FOLDER] [--before CHECKOUT] [--rounds 3] [--busy 8] [--json]

- **pairs**: references and answers of the kinds in ``tests/arbiter/grading/pairs.txt``, with their verdicts, for the
  grader and for ``math-verify`` alone. A *false right* is a wrong answer that was graded as right. The pairs whose
  verdicts are known to be wrong are counted in a row of their own, which is no part of the sum.
- **data**: the real outputs and the references of MATH500 and OlympiadBench in ``--data``, if that folder exists. Each
  reference is graded in a box, in the order of its answers.
- **before**: CPU milliseconds per graded answer, over all these answers, in this checkout and in another one
  (``git worktree add --detach ../before ef65c79``). The checkouts alternate; the ratio is the median of the rounds.
- **busy**: all these answers graded again next to ``--busy`` processes that compute without end.
"""

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any, cast

import cyclopts
import msgspec
from cyclopts import Parameter
from markdown_tables import markdown

from arbiter.data import load_problems
from arbiter.grading.answers import Reference, as_reference

HERE = Path(__file__).parent.parent
PAIRS = HERE / "tests" / "arbiter" / "grading" / "pairs.txt"
DATA = HERE.parent / "shared" / "data"
KNOWN = "known wrong verdicts"
"""The kind of the pairs that get the other verdict."""
_SPIN = "while True: pass"


class Pair(msgspec.Struct, frozen=True):
    """A reference and an answer, and whether the answer is right."""

    kind: str
    right: bool
    reference: str
    answer: str


class Confusion(msgspec.Struct, frozen=True):
    """How the answers of a kind were graded. ``failed`` answers got no verdict; they are misses or wrong as well."""

    kind: str
    right: int
    found: int
    wrong: int
    false_right: int
    failed: int = 0


class Measured(msgspec.Struct, frozen=True):
    """The outcome. Parts that were not measured are empty."""

    arbiter: list[Confusion]
    math_verify: list[Confusion]
    data: dict[str, tuple[int, int]]
    milliseconds: dict[str, float]
    ratio: float | None
    changed_by_load: tuple[int, int] | None


Text = tuple[str, str | Reference]


def main(
    *,
    pairs: Path = PAIRS,
    data: Path = DATA,
    before: Path | None = None,
    rounds: int = 3,
    busy: int = 8,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Grade the pairs and the data, compare with the checkout ``before``, and grade next to ``busy`` processes."""
    found = measure(read_pairs(pairs), data, before, rounds, busy)
    sys.stdout.write(msgspec.json.encode(found).decode() if as_json else _tables(found))
    sys.stdout.write("\n")


def read_pairs(path: Path) -> list[Pair]:
    """Read ``VERDICT REFERENCE ← ANSWER`` lines below headings that name their kinds."""
    pairs, kind = list[Pair](), ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line.endswith("]") and "←" not in line:
            kind = line[1:-1]
        elif line and not line.startswith("#"):
            verdict, _, rest = line.partition(" ")
            reference, _, answer = rest.partition(" ← ")
            pairs.append(Pair(kind, {"right": True, "wrong": False}[verdict], reference, answer))
    return pairs


def measure(pairs: Sequence[Pair], data: Path, before: Path | None, rounds: int, busy: int) -> Measured:
    """Measure the parts that the arguments ask for. ``busy`` is 0 for no load."""
    of_pairs: list[Text] = [(f"\\boxed{{{pair.answer}}}", pair.reference) for pair in pairs]
    of_data = _data(data)
    texts = [*of_pairs, *(text for each in of_data.values() for text, _ in each)]
    verdicts, seconds = _graded(HERE, texts)
    wanted = [right for each in of_data.values() for _, right in each]
    agree = iter([given is right for given, right in zip(verdicts[len(pairs) :], wanted, strict=True)])
    ratios, others = list[float](), list[float]()
    for _ in range(rounds if before else 0):
        own, other = _graded(HERE, texts)[1], _graded(cast("Path", before), texts)[1]
        ratios.append(own / other)
        others.append(other)
    return Measured(
        arbiter=_confusion(pairs, verdicts[: len(pairs)]),
        math_verify=_confusion(pairs, [_by_math_verify(pair) for pair in pairs]),
        data={name: (sum(next(agree) for _ in each), len(each)) for name, each in of_data.items()},
        milliseconds={
            "this checkout": 1000 * seconds / len(texts),
            **({"before": 1000 * median(others) / len(texts)} if others else {}),
        },
        ratio=median(ratios) if ratios else None,
        changed_by_load=_next_to(busy, texts, verdicts) if busy else None,
    )


def _data(folder: Path) -> dict[str, list[tuple[Text, bool]]]:
    """Return the texts of each data set with their verdicts; nothing if there is no such folder."""
    if not folder.is_dir():
        return {}
    rows = [json.loads(line) for line in (folder / "outputs.jsonl").read_text(encoding="utf-8").splitlines()]
    found: dict[str, list[tuple[Text, bool]]] = {
        "real outputs": [((row["text"], row["gold"]), row["right"]) for row in rows]
    }
    for name in ("math500", "olympiadbench"):
        answers = [problem.answer for problem in load_problems(str(folder / f"{name}.jsonl"))]
        found[f"references of {name}"] = [((_boxed(answer), answer), True) for answer in answers if answer is not None]
    return found


def _boxed(answer: str | Reference) -> str:
    return f"\\boxed{{{', '.join(as_reference(answer).answers)}}}"


def _graded(checkout: Path, texts: Sequence[Text]) -> tuple[list[bool | None], float]:
    """Return the verdicts of a checkout's grader, and its CPU seconds."""
    lines = [
        json.dumps(
            [text, reference, None]
            if isinstance(reference, str)
            else [text, reference.answers, {"unit": reference.unit, "tolerance": reference.tolerance}]
        )
        for text, reference in texts
    ]
    ended = subprocess.run(  # noqa: S603 - this interpreter and a file of this checkout
        [sys.executable, str(HERE / "benchmarks" / "graded_texts.py")],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )
    found = json.loads(ended.stdout)
    return found["verdicts"], found["seconds"]


def _next_to(busy: int, texts: Sequence[Text], before: list[bool | None]) -> tuple[int, int]:
    """Return how many verdicts differ next to ``busy`` processes, and the number of verdicts."""
    with _load(busy):
        verdicts, _ = _graded(HERE, texts)
    return sum(one is not other for one, other in zip(verdicts, before, strict=True)), len(before)


@contextmanager
def _load(processes: int) -> Generator[None]:
    command = [sys.executable, "-c", _SPIN]
    running = [subprocess.Popen(command) for _ in range(processes)]  # noqa: S603 - this interpreter
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _by_math_verify(pair: Pair) -> bool | None:
    """Return the verdict of the library with its own settings; None if it fails."""
    from math_verify import parse, verify  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    logging.disable(logging.CRITICAL)  # the library logs what it cannot read
    try:
        gold, given = (cast("Any", parse)(f"\\boxed{{{text}}}") for text in (pair.reference, pair.answer))
        return bool(cast("Any", verify)(gold, given))
    except Exception:  # whatever the library raises: it gives no verdict
        return None
    finally:
        logging.disable(logging.NOTSET)


def _confusion(pairs: Sequence[Pair], verdicts: Sequence[bool | None]) -> list[Confusion]:
    counts = Counter((pair.kind, pair.right, given) for pair, given in zip(pairs, verdicts, strict=True))
    kinds = list(dict.fromkeys(pair.kind for pair in pairs))
    return [
        Confusion(
            kind,
            right=sum(counts[kind, True, given] for given in (True, False, None)),
            found=counts[kind, True, True],
            wrong=sum(counts[kind, False, given] for given in (True, False, None)),
            false_right=counts[kind, False, True],
            failed=counts[kind, True, None] + counts[kind, False, None],
        )
        for kind in kinds
    ]


def total(confusions: Sequence[Confusion]) -> Confusion:
    """Return the sum over these kinds."""
    sums = (sum(getattr(one, name) for one in confusions) for name in Confusion.__struct_fields__[1:])
    return Confusion("all", *sums)


def _tables(found: Measured) -> str:
    both = zip(_with_sum(found.arbiter), _with_sum(found.math_verify), strict=True)
    rows = [(own.kind, *_cells(own), *_cells(other)) for own, other in both]
    header = "kind | right answers found | false rights | found by math-verify alone | its false rights"
    lines = [markdown(header, rows), ""]
    lines += [f"{name}: {agreed} of {of} verdicts as expected" for name, (agreed, of) in found.data.items()]
    lines += [f"CPU per answer, {name}: {value:.2f} ms" for name, value in found.milliseconds.items()]
    if found.ratio is not None:
        lines.append(f"CPU per answer, ratio to the other checkout: {found.ratio:.2f}")
    if found.changed_by_load is not None:
        changed, of = found.changed_by_load
        lines.append(f"verdicts that differ on the busy machine: {changed} of {of}")
    return "\n".join(lines)


def _with_sum(confusions: Sequence[Confusion]) -> list[Confusion]:
    """Return the kinds to which the rules were fitted with their sum, and the known wrong verdicts."""
    fitted = [one for one in confusions if one.kind != KNOWN]
    return [*fitted, total(fitted), *(one for one in confusions if one.kind == KNOWN)]


def _cells(one: Confusion) -> tuple[str, str]:
    return f"{one.found} of {one.right}", f"{one.false_right} of {one.wrong}"


if __name__ == "__main__":
    cyclopts.run(main)
