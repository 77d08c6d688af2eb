"""Collections: run folders of ``arbiter collect``, which hold training rows and ``collection.json``."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from arbiter.backends.prompts import TEMPLATES, prompt_template
from arbiter.config.config import Config
from arbiter.config.model_tables import DraftHeadTable
from arbiter.data import Problem, load_problems
from arbiter.data.published import published_rows
from arbiter.data.sampling import check_shares, split_of, stratified
from arbiter.data.training_rows import VERSION, TrainingRow
from arbiter.log.checksums import as_document, as_line
from arbiter.protocols.errors import ConfigError, DataError, RunError, os_reason
from arbiter.protocols.records import Record
from arbiter.runs.documents import read_document
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.graders import with_rows
from arbiter.runs.remedies import collection_remedy

NAME = "collection.json"

Counts = dict[str, dict[str, int]]
"""Counts by split, then by source."""


class Collection(Record, frozen=True, kw_only=True):
    """The content of ``collection.json``: what a collection contains and how a router reads its rows.

    - ``prompt`` (with ``{question}``), ``annotate``, ``separator``: the router's input format.
    - ``models``: model names by role. ``targets``: names of several targets, in the order of the rows.
    - ``seed``: decides sample, split and noise. ``validation``, ``test``: shares of the problems.
    - ``limit``, ``stratify``: how many problems were taken from the data, and the field that defines the strata.
    - ``version``: the format version of the rows.
    - ``problems``, ``rows``: counts of what is stored. ``better``: the share of stored rows with Δ > 0.
    - ``complete``: whether the rows of all problems are stored.
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
    """Return the collection that ``config`` describes, without counts.

    The router's prompt is taken from the router's table. Without that table, the PRM's prompt is used, annotated: most
    routers start from a PRM and read the authors of steps. Raises ``ConfigError`` naming the wrong option.
    """
    sampling = config.sampling
    if sampling.target_samples > 1 and sampling.temperature == 0:
        raise ConfigError(
            f"--samples {sampling.target_samples}: at temperature 0 all target samples of a step are the same. "
            "Set --temperature above 0, or use --samples 1"
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
    """Return the router's prompt, whether the router reads authors, and the separator."""
    if config is None:
        return TEMPLATES["plain"], True, "\n\n"
    router = config.models.router
    if isinstance(router, DraftHeadTable):  # it reads no text of its own
        router = None
    table = router or config.models.prm
    annotate = router.annotate if router else True
    if table is None:
        return TEMPLATES["plain"], annotate, config.separator
    prompt = prompt_template(table.prompt, annotate, table.tokenizer or table.model).before_steps
    return prompt, annotate, config.separator


def problems_of(config: Config, plan: Collection) -> list[Problem]:
    """Load the problems of a collection, and set the split of each. Raises ``DataError``."""
    data = config.data
    limit = None if plan.stratify else data.limit
    problems = load_problems(
        data.source,
        limit,
        fields=data.fields,
        subset=data.subset,
        split=data.split,
        prompt=data.prompt,
        seed=config.seed,
    )
    for problem in problems:
        if problem.rules is not None or problem.turns or problem.after:
            raise DataError(
                f"the problem {problem.id!r} has tools or their calls, and training rows have none: leave it out"
            )
    if plan.stratify and data.limit is not None:
        problems = stratified(problems, data.limit, plan.seed)
    return [
        msgspec.structs.replace(problem, split=split_of(problem.id, plan.seed, plan.validation, plan.test))
        for problem in with_rows(config, problems)
    ]


def counted(plan: Collection, rows: Iterable[TrainingRow], complete: bool) -> Collection:
    """Return ``plan`` with the counts of ``rows``."""
    per_row, per_problem, seen = Counter[tuple[str, str]](), Counter[tuple[str, str]](), set[str]()
    targets: dict[str, None] = {}
    better = 0
    for row in rows:
        key = row.split, row.source
        per_row[key] += 1
        per_problem[key] += row.problem not in seen
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
    """Convert published rows (``arbiter.data.published``) into a collection in ``folder``, and return it.

    With several files, problem ids are prefixed with the file name. The router's input format is taken from ``config``;
    without ``config`` the prompt is the bare question, annotated. Raises ``ConfigError``, ``DataError`` or
    ``RunError``.
    """
    check_shares(validation, test)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--out {folder} exists already: choose another folder")
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
        raise DataError(f"{', '.join(map(str, files))}: no rows found")
    collection = counted(plan, rows, complete=True)
    write_collection(folder, collection)
    try:
        (folder / "rows.jsonl").write_bytes(b"".join(as_line(msgspec.json.encode(row)) for row in rows))
    except OSError as error:
        raise RunError(f"cannot write {folder / 'rows.jsonl'}: {error.strerror}") from error
    return collection


def write_collection(folder: Path, collection: Collection) -> None:
    """Write ``collection.json`` into ``folder``. Raises ``RunError`` if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write {folder / NAME}: {os_reason(error)}") from error
    replace_file(folder / NAME, as_document(msgspec.json.encode(collection)))


def read_collection(path: Path) -> Collection | None:
    """Read the collection in the folder ``path``, or in the folder of the file ``path``.

    Return None if that folder has no ``collection.json``. Raises ``RunError`` if the file is damaged.
    """
    folder = path if path.is_dir() else path.parent
    return read_document(folder / NAME, Collection, collection_remedy(folder))


def common(collections: Sequence[tuple[Path, Collection]]) -> Collection:
    """Return the input format that all ``collections`` share, with the targets of all of them.

    Raises ``DataError`` naming two collections that differ.
    """
    first_path, first = collections[0]
    for path, other in collections[1:]:
        for name in ("prompt", "annotate", "separator"):
            if getattr(first, name) != getattr(other, name):
                raise DataError(f"{first_path} and {path} differ in {name}: set it on the command line")
    targets = tuple(dict.fromkeys(name for _, found in collections for name in found.targets))
    return msgspec.structs.replace(first, targets=targets)


def _nested(counts: Counter[tuple[str, str]]) -> Counts:
    found: Counts = {}
    for (split, source), count in sorted(counts.items()):
        found.setdefault(split, {})[source] = count
    return found
