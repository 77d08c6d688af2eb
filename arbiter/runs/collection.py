"""A collection: the run folder of ``arbiter collect``, with ``collection.json`` beside its rows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from arbiter.backends.prompts import TEMPLATES, prompt_template
from arbiter.config.config import Config
from arbiter.data import Problem, load_problems
from arbiter.data.published import published_rows
from arbiter.data.sampling import check_shares, split_of, stratified
from arbiter.data.training_rows import VERSION, TrainingRow
from arbiter.protocols.errors import ConfigError, DataError, RunError
from arbiter.protocols.records import Record
from arbiter.runs.folder import replace_file

NAME = "collection.json"

Counts = dict[str, dict[str, int]]
"""Numbers by split, and in it by source."""


class Collection(Record, frozen=True, kw_only=True):
    """What a collection is, and how a router will read its rows.

    ``prompt`` (with ``{question}``), ``annotate`` and ``separator`` are the router's; ``models`` are by role, and
    ``targets`` the names of several targets, in the order in which the rows have them. ``seed`` decides sample, split
    and noise, ``validation`` and ``test`` are shares of the problems, ``limit`` and ``stratify`` (the field of the
    strata) say what was taken of the data. ``version`` is that of the rows. The counts, and ``better``, the share of
    rows with Δ > 0, are those of the rows that are there: with ``complete`` those of all problems.
    """

    version: int = VERSION
    seed: int = 0
    limit: int | None = None
    stratify: str | None = None
    validation: float = 0.0
    test: float = 0.0
    prompt: str
    annotate: bool
    separator: str
    models: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    targets: tuple[str, ...] = ()
    problems: Counts = msgspec.field(default_factory=dict[str, dict[str, int]])
    rows: Counts = msgspec.field(default_factory=dict[str, dict[str, int]])
    better: float | None = None
    complete: bool = False


def planned(config: Config, stratify: str | None, validation: float, test: float) -> Collection:
    """The collection that ``config`` makes, without counts. Raises ``ConfigError`` naming the option that is wrong.

    The router's prompt is that of its table, if the configuration has one; otherwise the PRM's, annotated, since a
    router most often starts from a PRM and reads authors.
    """
    sampling = config.sampling
    if sampling.target_samples > 1 and sampling.temperature == 0:
        raise ConfigError(
            f"--samples {sampling.target_samples}: at temperature 0 all of the target's samples of a step are the "
            "same; set --temperature above 0, or take one sample"
        )
    check_shares(validation, test)
    prompt, annotate, separator = _reading(config)
    return Collection(
        seed=config.seed,
        limit=config.data.limit,
        stratify=stratify,
        validation=validation,
        test=test,
        prompt=prompt,
        annotate=annotate,
        separator=separator,
        models={
            name: table.model
            for name in ("draft", "target", "prm")
            if (table := getattr(config.models, name)) is not None
        },
    )


def _reading(config: Config | None) -> tuple[str, bool, str]:
    """The router's prompt, whether it reads authors, and the separator."""
    if config is None:
        return TEMPLATES["plain"], True, "\n\n"
    table = config.models.router or config.models.prm
    annotate = config.models.router.annotate if config.models.router else True
    if table is None:
        return TEMPLATES["plain"], annotate, config.separator
    prompt = prompt_template(table.prompt, annotate, table.tokenizer or table.model).before_steps
    return prompt, annotate, config.separator


def problems_of(config: Config, plan: Collection) -> list[Problem]:
    """The problems of a collection, each with its split. Raises ``DataError``."""
    data = config.data
    limit = None if plan.stratify else data.limit
    problems = load_problems(data.source, limit, fields=data.fields, subset=data.subset, split=data.split)
    if plan.stratify and data.limit is not None:
        problems = stratified(problems, data.limit, plan.seed)
    return [
        msgspec.structs.replace(problem, split=split_of(problem.id, plan.seed, plan.validation, plan.test))
        for problem in problems
    ]


def counted(plan: Collection, rows: Iterable[TrainingRow], complete: bool) -> Collection:
    """``plan`` with the counts of ``rows``."""
    per_row, per_problem, seen = Counter[tuple[str, str]](), Counter[tuple[str, str]](), set[str]()
    targets: dict[str, None] = {}
    better = 0
    for row in rows:
        place = row.split, row.source
        per_row[place] += 1
        per_problem[place] += row.problem not in seen
        seen.add(row.problem)
        better += row.advantage > 0
        targets.update(dict.fromkeys(row.target_names))
    return msgspec.structs.replace(
        plan,
        rows=_nested(per_row),
        problems=_nested(per_problem),
        targets=tuple(targets),
        better=better / per_row.total() if per_row else None,
        complete=complete,
    )


def imported(
    files: Sequence[Path],
    fields: Mapping[str, str],
    config: Config | None,
    seed: int,
    validation: float,
    test: float,
    folder: Path,
) -> Collection:
    """Write the rows of published dumps (``arbiter.data.published``) into ``folder``, as a collection.

    Where there are several files, a problem's id has its file's name before it. The router's reading is that of
    ``config``; without one the bare question, annotated. Raises ``ConfigError``, ``DataError`` or ``RunError``.
    """
    check_shares(validation, test)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--out {folder} is there already: name another folder")
    prompt, annotate, separator = _reading(config)
    plan = Collection(
        seed=seed, validation=validation, test=test, prompt=prompt, annotate=annotate, separator=separator
    )
    rows: list[TrainingRow] = []
    for file in files:
        for row in published_rows(file, fields, separator):
            problem = f"{file.stem}-{row.problem}" if len(files) > 1 else row.problem
            split = split_of(problem, seed, validation, test)
            rows.append(msgspec.structs.replace(row, problem=problem, split=split))
    if not rows:
        raise DataError(f"{', '.join(map(str, files))}: no row in there")
    collection = counted(plan, rows, complete=True)
    write_collection(folder, collection)
    try:
        (folder / "rows.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(rows))
    except OSError as error:
        raise RunError(f"cannot write {folder / 'rows.jsonl'}: {error.strerror}") from error
    return collection


def write_collection(folder: Path, collection: Collection) -> None:
    """Write ``collection.json``. Raises ``RunError`` if the disk refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / NAME, msgspec.json.format(msgspec.json.encode(collection), indent=2) + b"\n")
    except OSError as error:
        raise RunError(f"cannot write {folder / NAME}: {error.strerror}") from error


def read_collection(path: Path) -> Collection | None:
    """The collection that the folder ``path``, or the file in it, belongs to; None if it is none.

    Raises ``DataError`` if its ``collection.json`` is damaged.
    """
    file = (path if path.is_dir() else path.parent) / NAME
    try:
        return msgspec.json.decode(file.read_bytes(), type=Collection)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {error}") from error


def common(collections: Sequence[tuple[Path, Collection]]) -> Collection:
    """The reading that several collections have in common. Raises ``DataError`` naming two that differ."""
    first_path, first = collections[0]
    for path, other in collections[1:]:
        for name in ("prompt", "annotate", "separator"):
            if getattr(first, name) != getattr(other, name):
                raise DataError(f"{first_path} and {path} differ in {name}: name it on the command line")
    targets = tuple(dict.fromkeys(name for _, found in collections for name in found.targets))
    return msgspec.structs.replace(first, targets=targets)


def _nested(counts: Counter[tuple[str, str]]) -> Counts:
    found: Counts = {}
    for (split, source), count in sorted(counts.items()):
        found.setdefault(split, {})[source] = count
    return found
