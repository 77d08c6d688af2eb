"""Read the files of a run folder that have one record per line."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from arbiter.log import version1
from arbiter.log.checksums import Checksums, of_line
from arbiter.protocols.errors import RunError
from arbiter.runs.remedies import written_again
from arbiter.runs.results import Result

Kind = TypeVar("Kind", bound=msgspec.Struct)


class _DamagedLineError(RunError):
    """A line of a file cannot be read."""


def read_records(path: Path, kind: type[Kind]) -> Iterator[Kind]:
    """Yield the records of a JSONL file. Raises ``RunError`` naming the line that cannot be read."""
    return _records(path, msgspec.json.Decoder(kind).decode)


def _records(path: Path, decode: Callable[[bytes], Kind]) -> Iterator[Kind]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield decode(of_line(line))
                except ValueError as error:  # a wrong checksum, or no such record
                    raise _DamagedLineError(f"{path}, line {number}: {error}; {written_again(path.parent)}") from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error


def read_results(path: Path) -> tuple[list[Result], bool]:
    """Return the results of a run, and whether an incomplete last line, as a killed run leaves it, was skipped.

    Raises ``RunError`` naming any other line that cannot be read.
    """
    results: list[Result] = []
    try:
        for result in _records(path, version1.result_decoder(Result)):
            results.append(result)  # noqa: PERF402 - keeps the results before an incomplete line
    except _DamagedLineError:
        stored = path.read_bytes()
        last = stored.rpartition(b"\n")[2]
        if last and stored.count(b"\n") == len(results) and not Checksums().lacks_its_line_feed(last):
            return results, True
        raise
    _refuse_doubled(path, results)
    return results, False


def check_count(folder: Path, results: int, counted: int | None) -> None:
    """Raise ``RunError`` if ``folder`` does not have the ``counted`` results of its summary. None: not known."""
    if counted not in (None, results):
        raise RunError(
            f"{folder / 'results.jsonl'} has {results} results, but summary.json counts {counted}: "
            f"{written_again(folder)}"
        )


def _refuse_doubled(path: Path, results: Sequence[Result]) -> None:
    lines: dict[tuple[str, int], int] = {}
    for number, result in enumerate(results, start=1):
        problem, sample = result.solution.problem, result.solution.sample
        first = lines.setdefault((problem, sample), number)
        if first != number:
            raise RunError(
                f"{path}, line {number}: it has sample {sample} of the problem {problem!r}, as line {first} has: "
                "it would count twice; remove one of the two lines"
            )
