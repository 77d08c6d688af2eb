"""Damage the files of runs, and check that no command takes what is damaged for what was written.

    python benchmarks/damage.py [--flips 1000] [--aimed 500] [--every 100] [--seed 0] [--json]

Five runs of scripted models are written: of several run types, one without texts, and one of two sessions. Then one
file of a run is damaged, and every command that reads it is called (``damaged_runs.py``), again and again:

- ``flips``: one random byte of a log, plain or compressed, becomes another one. A fifth as many bytes of
  ``results.jsonl``, ``rows.jsonl``, ``summary.json`` and ``config.toml`` change as well.
- ``aimed``: one character inside a value becomes another one of its kind, so that the line stays valid JSON. The values
  are of each kind of field in turn.
- ``cuts``: a log, plain or compressed, ends after each multiple of ``every`` bytes, and so does ``results.jsonl``. Each
  fifth of these logs is also replayed and resumed.

A case counts in the last of these columns that is true of one of the commands:

- ``unchanged``: it prints what it prints without the damage, and a run that it resumes has the same results
- ``refused``: it fails, and names the file and, in a plain log, the line
- ``named``: ``replay`` names a difference
- ``noted``: of a cut, it says that the end is missing
- ``silent``: it prints something else without a word
- ``crashed``: it has a traceback

The exit status is 1 if a case is silent or crashed.
"""

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Annotated, Literal, get_args

import cyclopts
import msgspec
from cyclopts import Parameter
from damaged_runs import NAMES, Outcome, Reader, copy_run, readers, write_runs
from markdown_tables import markdown

Verdict = Literal["unchanged", "refused", "named", "noted", "silent", "crashed"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Damage = Callable[[bytes], tuple[bytes, int]]
"""Returns the damaged content and the place of the damage."""

_LOGS = ("events.jsonl", "events.jsonl.gz")
_RECORDS = ("results.jsonl", "summary.json", "config.toml", "rows.jsonl")
_NUMBER, _TEXT = rb"-?(\d[\d.e+-]*)", rb'"([^"\\]+)"'
AIMS: dict[str, tuple[str, bytes]] = {
    "question": ("events.jsonl", rb'"question":' + _TEXT),
    "step": ("events.jsonl", rb'"text":' + _TEXT),
    "last step": ("events.jsonl", rb'(?s).*"text":' + _TEXT),
    "tokens": ("events.jsonl", rb'"(?:completion|prompt|cached)_tokens":' + _NUMBER),
    "score": ("events.jsonl", rb'"value":' + _NUMBER),
    "seconds": ("events.jsonl", rb'"seconds":' + _NUMBER),
    "time": ("events.jsonl", rb'"(?:mono|wall|us)":' + _NUMBER),
    "grade": ("events.jsonl", rb'"right":(true|false)'),
    "answer": ("events.jsonl", rb'"answer":' + _TEXT),
    "reference": ("events.jsonl", rb'"reference":' + _TEXT),
    "limit": ("events.jsonl", rb'"(?:max_steps|max_tokens|step_tokens|repeats)":' + _NUMBER),
    "seed": ("events.jsonl", rb'"seed":' + _NUMBER),
    "decision": ("events.jsonl", rb'"(?:verdict|stop_reason|finish_reason|author)":' + _TEXT),
    "kind": ("events.jsonl", rb'"kind":' + _TEXT),
    "place": ("events.jsonl", rb'"(?:step|sample|steps|index)":' + _NUMBER),
    "problem": ("events.jsonl", rb'"problem":' + _TEXT),
    "context": ("events.jsonl", rb'"(?:context|digest|run)":' + _TEXT),
    "number of the line": ("events.jsonl", rb'"seq":' + _NUMBER),
    "checksum": ("events.jsonl", rb'"c":' + _TEXT),
    "step of a result": ("results.jsonl", rb'"text":' + _TEXT),
    "number of a result": ("results.jsonl", rb'"(?:value|seconds|completion_tokens|requests)":' + _NUMBER),
    "grade of a result": ("results.jsonl", rb'"right":(true|false)'),
    "reference of a result": ("results.jsonl", rb'"reference":' + _TEXT),
    "word of a result": ("results.jsonl", rb'"(?:author|finish_reason|verdict|problem)":' + _TEXT),
    "number of a row": ("rows.jsonl", rb'"(?:draft_score|draft_tokens|step)":' + _NUMBER),
    "figure of a summary": ("summary.json", rb'"(?:wall_seconds|cpu_seconds|decoded|accuracy)": ' + _NUMBER),
    "key that decides": ("config.toml", rb"(?m)^(?:max_steps|max_tokens|seed|temperature|repeats) = " + _NUMBER),
}
"""The file and the pattern of each kind of value. The group is what is changed."""

_CLASSES = (b"0123456789", b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CUT_READERS = ("show", "show problem", "report", "show --verify")
_SELDOM = ("replay", "resume")  # they take longest: they read each fifth of the cuts
_EVERY = 5
_NOTES = re.compile(r"half written|has no end in the log|in progress, or was killed")


class Row(msgspec.Struct, frozen=True):
    """How many cases of one kind of damage had each verdict. ``first`` describes the first silent or crashed case."""

    damage: str
    cases: int
    verdicts: dict[Verdict, int]
    first: str = ""


def main(
    flips: int = 1000,
    aimed: int = 500,
    every: int = 100,
    seed: int = 0,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Damage files in each way, and print a table.

    Parameters
    ----------
    flips
        The number of random bytes of logs that change.
    aimed
        The number of characters inside values that change.
    every
        The bytes between two cuts.
    seed
        The seed of the random choices.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder))
        rows = list(measure(runs, flips, aimed, every, Random(seed)))
    sys.stdout.write(msgspec.json.encode(rows).decode() if as_json else render(rows))
    sys.stdout.write("\n")
    return int(any(row.first for row in rows))


def measure(runs: "Runs", flips: int, aimed: int, every: int, rng: Random) -> Iterator[Row]:
    """Yield the rows of the table, each when it is counted."""
    for file in _LOGS:
        cases = ((NAMES[n % len(NAMES)], file, flipped(rng)) for n in range(flips // len(_LOGS)))
        yield counted(f"flips in {file}", runs, cases)
    for file in _RECORDS:
        names = [name for name in NAMES if runs.has(name, file)]
        cases = ((names[n % len(names)], file, flipped(rng)) for n in range(flips // 5 // len(_RECORDS)))
        yield counted(f"flips in {file}", runs, cases)
    each = max(1, aimed // len(AIMS))
    for kind, (file, pattern) in AIMS.items():
        names = [name for name in NAMES if runs.has(name, file) and re.search(pattern, runs.content(name, file))]
        cases = ((names[n % len(names)], file, changed_value(pattern, rng)) for n in range(each))
        yield counted(f"aimed: {kind}", runs, cases)
    for file in (*_LOGS, "results.jsonl"):
        yield counted(f"cuts of {file}", runs, cuts(runs, file, every), cut=True)


def flipped(rng: Random) -> Damage:
    """Change one random byte."""

    def damage(content: bytes) -> tuple[bytes, int]:
        at = rng.randrange(len(content))
        return content[:at] + bytes([content[at] ^ rng.randint(1, 255)]) + content[at + 1 :], at

    return damage


def changed_value(pattern: bytes, rng: Random) -> Damage:
    """Change one character of one value, so that the value stays one of its kind."""

    def damage(content: bytes) -> tuple[bytes, int]:
        start, end = rng.choice([found.span(1) for found in re.finditer(pattern, content)])
        value = content[start:end]
        if value in (b"true", b"false"):
            return content[:start] + (b"null" if value == b"true" else b"true ") + content[end:], start
        places = [at for at in range(start, end) if any(content[at] in kind for kind in _CLASSES)]
        at = rng.choice(places)
        kind = next(kind for kind in _CLASSES if content[at] in kind)
        other = rng.choice([byte for byte in kind if byte != content[at]])
        return content[:at] + bytes([other]) + content[at + 1 :], at

    return damage


def cuts(runs: "Runs", file: str, every: int) -> Iterator[tuple[str, str, Damage]]:
    """Yield a cut after each multiple of ``every`` bytes."""
    for name in NAMES:
        for size in range(every, len(runs.content(name, file)), every):
            yield name, file, lambda content, size=size: (content[:size], size)


class Runs:
    """The undamaged runs, and what the commands print of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._work = folder / "damaged"
        self._known: dict[tuple[str, str], dict[str, Outcome]] = {}
        write_runs(folder)

    def has(self, name: str, file: str) -> bool:
        """Return whether the run has the file, plain or compressed."""
        return (self.folder / name / file.removesuffix(".gz")).is_file()

    def content(self, name: str, file: str) -> bytes:
        """Return the content of a file of a run."""
        return (self.copy(name, file) / file).read_bytes()

    def copy(self, name: str, file: str) -> Path:
        """Return a new copy of a run, with a compressed log if ``file`` is one."""
        copy_run(self.folder / name, self._work, file.endswith(".gz"))
        return self._work

    def readers(self, name: str, file: str) -> Mapping[str, Reader]:
        """Return the commands that read the file."""
        return readers(name, self.folder / name, file)

    def known(self, name: str, file: str) -> dict[str, Outcome]:
        """Return what each command does without damage."""
        if (name, file) not in self._known:
            found: dict[str, Outcome] = {}
            for command, read in self.readers(name, file).items():
                found[command] = read(self.copy(name, file))
                assert found[command].status == 0, found  # noqa: S101 - the damage is what makes commands fail
            self._known[name, file] = found
        return self._known[name, file]


def counted(damage: str, runs: Runs, cases: Iterator[tuple[str, str, Damage]], cut: bool = False) -> Row:
    """Return the verdicts of ``cases``."""
    verdicts: Counter[Verdict] = Counter()
    first = ""
    for number, (name, file, change) in enumerate(cases):
        known, folder = runs.known(name, file), runs.copy(name, file)
        content = (folder / file).read_bytes()
        damaged, at = change(content)
        (folder / file).write_bytes(damaged)
        line = content.count(b"\n", 0, at) + 1 if file == "events.jsonl" else None
        worst = 0
        for command, read in runs.readers(name, file).items():
            if cut and command not in _CUT_READERS and (command not in _SELDOM or number % _EVERY):
                continue
            outcome = read(folder)
            verdict = verdict_of(outcome, known[command], file, line, cut)
            worst = max(worst, VERDICTS.index(verdict))
            if verdict in ("silent", "crashed") and not first:
                first = f"{name}/{file}, byte {at}, {command}: {outcome.crashed or outcome.messages or 'nothing said'}"
        verdicts[VERDICTS[worst]] += 1
    return Row(damage, verdicts.total(), {verdict: verdicts[verdict] for verdict in VERDICTS}, first)


def verdict_of(outcome: Outcome, known: Outcome, file: str, line: int | None, cut: bool) -> Verdict:
    """Return what a command made of the damage in ``line`` of ``file``. ``known`` is what it does without damage."""
    if outcome.crashed is not None:
        return "crashed"
    if outcome.status == 2:
        messages = outcome.messages.replace("\n", "")
        by_line = line is None or cut or f"line {line}:" in messages
        return "refused" if by_line and (file in messages or "config.toml" in messages) else "silent"
    if (outcome.status, outcome.output) == (known.status, known.output):
        return "unchanged"
    if cut and _NOTES.search(outcome.messages + outcome.output):
        return "noted"
    return "named" if outcome.status == 1 else "silent"


def render(rows: list[Row]) -> str:
    """Return the table, and the first case of each row that is silent or crashed."""
    table = markdown(
        f"damage | cases | {' | '.join(VERDICTS)}",
        ([row.damage, row.cases, *(row.verdicts[verdict] for verdict in VERDICTS)] for row in rows),
    )
    return "\n".join([table, *(f"{row.damage}: {row.first}" for row in rows if row.first)])


if __name__ == "__main__":
    sys.exit(cyclopts.run(main))
