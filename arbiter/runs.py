"""A run's folder: everything that a run leaves behind, written as it happens.

::

    config.toml     the resolved configuration: ``arbiter bench FOLDER/config.toml`` does the same again
    versions.json   of Arbiter, Python and the packages that decide results
    results.jsonl   one line a problem, or a sample of it (``arbiter.results.Result``), in the order in which they ended
    rows.jsonl      of a generate run: one training row a step (``arbiter.runs.Row``)
    summary.json    the figures (``arbiter.results.Summary``)
"""

import importlib.metadata
import platform
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar, cast

import msgspec
import tomli_w

from arbiter.config import Config
from arbiter.results import Result, Summary
from protocols.errors import RunError
from protocols.records import Record, Solution, Step

Kind = TypeVar("Kind", bound=Record)

_PACKAGES = ("arbiter-reasoning", "anyio", "msgspec", "math-verify", "torch", "transformers", "tokenizers")


class Row(Record, frozen=True):
    """One step of a generate run, for training a router.

    ``history`` are the kept steps before it, each with its author; the scores are process rewards in [0, 1].
    ``sample`` is the number of the decoding, where each problem is decoded several times.
    The advantage of the target is the mean of ``target_scores`` minus ``draft_score``.
    """

    problem: str
    question: str
    step: int
    history: tuple[Step, ...]
    draft: str
    draft_score: float
    targets: tuple[str, ...]
    target_scores: tuple[float, ...]
    sample: int = 0

    @property
    def advantage(self) -> float:
        return sum(self.target_scores) / len(self.target_scores) - self.draft_score


class RunFolder:
    """Writes a run's folder. Use it as a context manager; ``summary.json`` is written by ``finish``."""

    def __init__(self, config: Config, out: Path | None) -> None:
        self.path = out or _new_path(config)
        self._config = config
        self._files = ExitStack()
        self._results: BinaryIO | None = None
        self._rows: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Raises ``RunError`` if the folder holds a run already, or cannot be written."""
        with self._told():
            if (self.path / "results.jsonl").exists():
                raise RunError(f"{self.path} holds a run already: give another folder with --out, or remove this one")
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "config.toml").write_bytes(tomli_w.dumps(_without_none(self._config)).encode())
            (self.path / "versions.json").write_bytes(msgspec.json.format(msgspec.json.encode(versions())))
            with ExitStack() as files:
                if self._config.run_type == "generate":
                    self._rows = files.enter_context((self.path / "rows.jsonl").open("wb"))
                self._results = files.enter_context((self.path / "results.jsonl").open("xb"))
                self._files = files.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def add(self, result: Result) -> None:
        """Append a result, and its training rows if this is a generate run. Raises ``RunError`` if the disk refuses."""
        self._append(self._results, result)
        if self._rows is not None:
            for row in training_rows(result.solution):
                self._append(self._rows, row)

    def finish(self, summary: Summary) -> None:
        """Write the summary. Raises ``RunError`` if the disk refuses."""
        text = msgspec.json.format(msgspec.json.encode(summary))
        with self._told():
            (self.path / "summary.json").write_bytes(text + b"\n")

    def _append(self, file: BinaryIO | None, record: Record) -> None:
        if file is None:
            raise RunError(f"the run folder {self.path} is not open")
        with self._told():
            file.write(msgspec.json.encode(record) + b"\n")
            file.flush()

    @contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"cannot write the run folder {self.path}: {error.strerror}") from error


def training_rows(solution: Solution) -> Iterator[Row]:
    """The steps of a generate run's solution whose candidates were all scored."""
    history: tuple[Step, ...] = ()
    for index, record in enumerate(solution.steps):
        scores = [target.score for target in record.targets if target.score is not None]
        all_scored = bool(scores) and len(scores) == len(record.targets)
        if record.draft is not None and record.draft.score is not None and all_scored:
            yield Row(
                problem=solution.problem,
                question=solution.question,
                step=index,
                history=history,
                draft=record.draft.text,
                draft_score=record.draft.score,
                targets=tuple(target.text for target in record.targets),
                target_scores=tuple(scores),
                sample=solution.sample,
            )
        history = (*history, Step(text=record.kept.text, author=record.kept.author))


def read_records(path: Path, kind: type[Kind]) -> Iterator[Kind]:
    """The records of a JSONL file. Raises ``RunError`` naming the line that cannot be read."""
    decoder = msgspec.json.Decoder(kind)
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise RunError(f"{path}, line {number}: {error}") from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error


def read_results(path: Path) -> tuple[list[Result], bool]:
    """The results of a run, and whether a last line was left out because a killed run had only half written it.

    Raises ``RunError`` naming another line that cannot be read.
    """
    results: list[Result] = []
    try:
        for result in read_records(path, Result):
            results.append(result)  # noqa: PERF402 - those before a torn line are kept
    except RunError as error:
        if not path.is_file():
            raise
        stored = path.read_bytes()
        if stored.count(b"\n") == len(results) and not stored.endswith(b"\n"):
            return results, True
        raise RunError(f"{error}; without that line the others can be read") from error
    return results, False


def versions() -> dict[str, str]:
    """Versions of what decides results; packages that are not installed are left out."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _new_path(config: Config) -> Path:
    """``runs/TIME-TYPE``, with a number behind it if that is taken."""
    base = Path("runs") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{config.run_type}"
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def _without_none(config: Config) -> dict[str, Any]:
    """The configuration as TOML can hold it: a key that is not set is left out."""

    def clean(tree: dict[str, Any]) -> dict[str, Any]:
        return {
            key: clean(cast("dict[str, Any]", value)) if isinstance(value, dict) else value
            for key, value in tree.items()
            if value is not None
        }

    return clean(msgspec.to_builtins(config))
