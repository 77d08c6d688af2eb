"""Arbiter in a pipeline of Ray Data: an asynchronous class for ``map_batches``. Needs the extra ``ray``.

::

    solved = ray.data.read_parquet("questions").map_batches(
        Solver, fn_constructor_kwargs={"config": "pocket"}, batch_format="pyarrow", batch_size=64, concurrency=2
    )
"""

import asyncio
import weakref
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any, Final, Unpack, cast

from arbiter.config.config import Config, load_config
from arbiter.exports.parquet_tables import RECORD_TYPES
from arbiter.integrations.arbiter_cache import SharedArbiter
from arbiter.library.arbiter import Arbiter
from arbiter.library.questions import Overrides
from arbiter.log.table_rows import Row, record_row
from arbiter.protocols.errors import ArbiterError, DataError
from arbiter.protocols.records import Author, RequestCounts, Solution

PREFIX: Final = "arbiter_"
"""The names of the columns that are added begin with it."""


class Solver:
    """Solves the question of each row. Ray makes one object of it per actor, with its own ring and models.

    ``config`` is a ``Config``, the path of a file that all nodes have, or the name of a built-in configuration.
    ``question`` is the column with the questions: texts, or conversations in OpenAI's form. The other arguments are
    overrides as for ``Arbiter.solve``. Only the models of the run type are opened.

    A batch is a ``pyarrow.Table`` (``batch_format="pyarrow"``). It is returned with the columns ``arbiter_answer``,
    ``_text``, ``_finish_reason``, ``_error``, ``_seconds``, ``_draft_tokens``, ``_target_tokens`` (all with the
    prefix), and ``arbiter_steps``, a list with the record of each kept step. A problem that fails has its
    ``arbiter_error``, and so has a row without a valid question.

    The constructor raises ``ConfigError`` and ``BackendError`` as opening an ``Arbiter``, and for a wrong override.
    A call raises ``DataError`` for a batch that is not such a table.
    """

    def __init__(
        self, config: str | Path | Config = "pocket", *, question: str = "question", **overrides: Unpack[Overrides]
    ) -> None:
        self._question, self._overrides = question, overrides
        read = config if isinstance(config, Config) else load_config(str(config))
        run_type = overrides.pop("run_type", read.run_type)
        chosen = read.with_run_type(run_type, "run_type", drop_budget=True)
        arbiter = Arbiter(chosen, run_types=(), leaving="cancel")
        self._shared = SharedArbiter(lambda: arbiter)
        # Ray's own loop stands still while the next stage takes no rows, so requests and deadlines need another one
        self._loop = asyncio.new_event_loop()
        Thread(target=_run, args=(self._loop,), daemon=True, name="arbiter").start()
        end = weakref.finalize(self, _end, self._loop, self._shared)
        try:
            self._arbiter = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        except BaseException:
            end()  # the error keeps this object, so nothing else would end the thread
            raise

    async def __call__(self, batch: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
        """Return ``batch`` with the answers, in the order of its rows. Its problems are solved concurrently."""
        questions = self._questions(batch)
        rows = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._solve_all(questions), self._loop))
        arrow = import_module("pyarrow")
        for name, kind in _types().items():
            batch = batch.append_column(PREFIX + name, arrow.array([row[name] for row in rows], kind))
        return batch

    async def _open(self) -> Arbiter:
        arbiter = await self._shared.arbiter()
        arbiter.task("a question that only checks the overrides", **self._overrides)
        return arbiter

    def _questions(self, batch: object) -> list[Any]:
        table = cast("Any", batch)
        if not isinstance(table, import_module("pyarrow").Table):
            raise DataError(
                f'Solver reads Arrow tables, not {type(table).__name__}: call map_batches with batch_format="pyarrow"'
            )
        names: list[str] = table.column_names
        if self._question not in names:
            raise DataError(
                f"there is no column {self._question!r}, only {', '.join(names)}: name the column of the questions "
                'with fn_constructor_kwargs={"question": …}'
            )
        taken = [name for name in names if name in {PREFIX + added for added in _types()}]
        if taken:
            raise DataError(f"the rows have a column {taken[0]} already: rename it with rename_columns")
        return table.column(self._question).to_pylist()

    async def _solve_all(self, questions: list[Any]) -> list[Row]:
        return list(await asyncio.gather(*map(self._solve, questions)))

    async def _solve(self, question: object) -> Row:
        try:
            return _row(await self._arbiter.solve(cast("Any", _without_nulls(question)), **self._overrides))
        except DataError as error:  # it fails alone, as a problem whose model fails
            return {**dict.fromkeys(_types()), "finish_reason": "failed", "error": str(error), "steps": []}


def _row(solution: Solution) -> Row:
    return {
        "answer": solution.answer,
        "text": solution.text,
        "finish_reason": solution.finish_reason,
        "error": solution.error,
        "seconds": solution.seconds,
        "draft_tokens": _written(solution, "draft"),
        "target_tokens": _written(solution, "target"),
        "steps": [record_row(step) for step in solution.steps],
    }


def _written(solution: Solution, author: Author) -> int:
    return solution.requests.get(author, RequestCounts()).usage.completion_tokens


@cache
def _types() -> dict[str, Any]:
    """Return the added columns without their prefix, and their types: the same for every batch."""
    arrow = import_module("pyarrow")
    step = arrow.struct([(name, arrow.type_for_alias(alias)) for name, alias in RECORD_TYPES.items()])
    return {
        "answer": arrow.string(),
        "text": arrow.string(),
        "finish_reason": arrow.string(),
        "error": arrow.string(),
        "seconds": arrow.float64(),
        "draft_tokens": arrow.int64(),
        "target_tokens": arrow.int64(),
        "steps": arrow.list_(step),
    }


def _without_nulls(value: object) -> object:
    """Return ``value`` without the fields that Arrow adds to the messages that lack them."""
    match value:
        case dict():
            fields = cast("dict[str, object]", value)
            return {name: _without_nulls(field) for name, field in fields.items() if field is not None}
        case list():
            return [_without_nulls(one) for one in cast("list[object]", value)]
        case _:
            return value


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


def _end(loop: asyncio.AbstractEventLoop, shared: SharedArbiter) -> None:
    """Close the Arbiter and end its loop, without waiting for it: any thread may collect a ``Solver``."""

    async def close() -> None:
        with suppress(ArbiterError):  # it could not be opened, which the constructor has raised
            await shared.aclose()
        loop.stop()

    asyncio.run_coroutine_threadsafe(close(), loop)
