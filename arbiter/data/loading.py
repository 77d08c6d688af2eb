"""Load problems from a drawn set, a file, standard input, a folder or the Hugging Face hub."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from arbiter.config.run_tables import USUAL, Fields
from arbiter.data.champ import CHAMP, champ_rows
from arbiter.data.choices import LETTERS
from arbiter.data.drawn_sets import DRAWN
from arbiter.data.file_rows import STANDARD_INPUT, DataRow, file_rows, input_rows
from arbiter.data.hub import Folder, Repository, folder_data, hub_repository, named_data, repository_rows
from arbiter.data.known_sets import KNOWN, QUESTION, KnownSet, filled, known_data
from arbiter.data.layout import DATA
from arbiter.data.problems import QUESTIONS, Problem, problem_of
from arbiter.protocols.errors import ConfigError, DataError

__all__ = ["Fields", "Problem", "load_problems"]

OpenHub = Callable[[str], Repository]
_SUFFIXES = {*DATA, ".txt"}


def load_problems(
    source: str,
    limit: int | None = None,
    *,
    fields: Fields = USUAL,
    subset: str | None = None,
    split: str | None = None,
    prompt: str | None = None,
    seed: int = 0,
    hub: OpenHub = hub_repository,
) -> list[Problem]:
    """Return the first ``limit`` problems of ``source``. Without a limit: all, or 200 of a drawn set.

    ``source`` is one of

    - ``pocket``, ``pocket:SEED``: problems that no pocket model was trained on, whatever the seed
    - ``pocket-train:SEED``: problems that the pocket models may be trained on
    - ``pocket-programs:SEED``: the outputs of short programs; ``pocket-functions:SEED``: functions to write, with tests
    - ``pocket-tools:SEED``: the turns of conversations that call tools
    - the path of a file: CSV, TSV, JSON, JSONL, Parquet, or plain text with one question per line
    - ``-``: such a file on standard input
    - a folder with the layout of a data set on the hub: ``FOLDER``, ``FOLDER:SPLIT``, ``FOLDER:SUBSET:SPLIT``
    - the name of a published data set (``arbiter.data.known_sets``), such as ``gsm8k`` or ``math500``
    - ``champ``: the problems of the package ``champ-dataset`` (the extra ``champ``)
    - a data set of the Hugging Face hub: ``OWNER/NAME``, ``OWNER/NAME:SPLIT``, ``OWNER/NAME:SUBSET:SPLIT``

    The usual field names are recognized (see ``arbiter.data.problems``); ``fields`` names others. ``subset`` and
    ``split`` replace those in the name of a data set. ``prompt`` is put around each question, instead of the prompt of
    a published data set; it has ``{question}``, and can have ``{letters}`` for those of the choices. ``seed`` shuffles
    the choices of GPQA. ``hub`` opens a data set of the hub by its name, and can return a ``Folder``: a copy on
    this machine.

    Raises ``DataError`` that names the file and the line, and ``ConfigError`` if ``prompt`` has no ``{question}``.
    """
    name, _, drawn_seed = source.partition(":")
    if prompt is not None and QUESTION not in prompt:
        raise ConfigError(f"data.prompt is {prompt!r}: write {QUESTION} where the question belongs")
    if name in DRAWN:
        return [_presented(problem, None, prompt) for problem in DRAWN[name].problems(name, drawn_seed, limit)]
    known = KNOWN.get(source.lower())
    if known is not None:
        fields = _completed(fields, known.fields)
    rows = source_rows(source, {fields.question.lower()} if fields.question else QUESTIONS, subset, split, hub)
    read = itertools.islice(_problems(rows, fields, seed), limit)
    problems = [_presented(problem, known, prompt) for problem in read]
    if not problems:
        raise DataError(f"{'standard input' if source == STANDARD_INPUT else source} contains no problem")
    return problems


def _completed(fields: Fields, usual: Fields) -> Fields:
    """Return ``fields`` with those that are not given taken from ``usual``."""
    return msgspec.structs.replace(
        usual, **{name: field for name in Fields.__struct_fields__ if (field := getattr(fields, name)) is not None}
    )


def _presented(problem: Problem, known: KnownSet | None, prompt: str | None) -> Problem:
    if prompt is not None:
        question = filled(prompt, {"question": problem.question, "letters": LETTERS[: len(problem.choices)]})
    else:
        question = known.question(problem) if known is not None else problem.question
    return msgspec.structs.replace(problem, question=question)


def source_rows(
    source: str,
    questions: Iterable[str],
    subset: str | None = None,
    split: str | None = None,
    hub: OpenHub = hub_repository,
) -> Iterator[DataRow]:
    """Return the rows of ``source``, as ``load_problems`` reads it, except a drawn set.

    ``questions`` are the names of fields that hold a question. Raises ``DataError``.
    """
    if source == STANDARD_INPUT:
        return input_rows(questions)
    if source == CHAMP:
        return champ_rows()
    known = known_data(source, subset, split)
    if known is not None:
        return repository_rows(known, hub(known.name), questions)
    folder, named = folder_data(source, subset, split), named_data(source, subset, split)
    if folder is not None:
        return repository_rows(folder, Folder(Path(folder.name)), questions)
    if named is None or Path(source).suffix in _SUFFIXES or os.path.lexists(source):
        return _file_rows(Path(source), questions)
    return repository_rows(named, hub(named.name), questions)


def _file_rows(path: Path, questions: Iterable[str]) -> Iterator[DataRow]:
    try:
        yield from file_rows(path, questions)
    except FileNotFoundError as error:
        known = f"known names: {', '.join(DRAWN)}, champ, {', '.join(KNOWN)}, and OWNER/NAME of the Hugging Face hub"
        raise DataError(f"cannot read the problems in {str(path)!r}: {error.strerror}; {known}") from error


def _problems(rows: Iterable[DataRow], fields: Fields, seed: int) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for row, place, number in rows:
        problem = problem_of(row, place, number, fields, seed)
        if problem.id in seen:
            raise DataError(
                f"{place}: the id {problem.id!r} is already used in {seen[problem.id]}: give each problem its own id"
            )
        seen[problem.id] = place
        yield problem
