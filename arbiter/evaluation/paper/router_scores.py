"""Score collected steps with the configured router, in this process or behind a server."""

from collections.abc import Sequence

import anyio

from arbiter.backends.opening import open_scorer
from arbiter.config.model_tables import AnyModelTable, RouterTable
from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.ports import ScoreRequest
from arbiter.protocols.records import Transcript


async def predicted(
    table: RouterTable,
    rows: Sequence[TrainingRow],
    separator: str,
    threads: int | None,
    draft: AnyModelTable | None = None,
) -> list[float]:
    """Return ŷ in [0, 1] of each row's draft. A head on the draft needs the table ``draft``.

    Raises ``ConfigError`` or ``BackendError`` like the models of a run."""
    found = [0.0] * len(rows)
    async with open_scorer("router", table, threads, draft=draft) as scorer:
        slots = anyio.CapacityLimiter(table.in_flight)

        async def score(index: int, row: TrainingRow) -> None:
            request = ScoreRequest(
                problem=row.problem,
                step=row.step,
                score_kind="router",
                transcript=Transcript(row.question, row.history),
                candidate=row.draft,
                author="draft",
                separator=separator,
            )
            async with slots:
                found[index] = (await scorer.score(request)).value

        async with anyio.create_task_group() as tasks:
            for index, row in enumerate(rows):
                tasks.start_soon(score, index, row)
    return found
