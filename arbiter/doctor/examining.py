"""The round: a finding for each model, from a few small requests to each."""

from collections.abc import AsyncGenerator
from typing import get_args

from arbiter.config import Config
from arbiter.doctor.findings import Check, Finding
from arbiter.doctor.scorers import scorer_checks
from arbiter.doctor.tokens import other_tokens
from arbiter.doctor.writers import writer_checks
from arbiter.model_tables import AnyModelTable
from protocols.errors import ArbiterError
from protocols.records import Scale

_SCALES: dict[str, Scale] = {scale: scale for scale in get_args(Scale)}


async def examine(config: Config) -> AsyncGenerator[Finding]:
    """A finding for each table ``[models.NAME]`` of ``config``, in their order."""
    for name, table in config.models.configured().items():
        checks: list[Check] = []
        try:
            async for check in _checks(name, table, config):
                checks += [check]  # what was seen before an error counts
        except ArbiterError as error:
            checks.append(Check("request", str(error).removeprefix(f"models.{name}: "), "failed"))
        yield Finding(name, tuple(checks))


async def _checks(name: str, table: AnyModelTable, config: Config) -> AsyncGenerator[Check]:
    if name in _SCALES:
        async for check in scorer_checks(_SCALES[name], table, config):
            yield check
        return
    async for check in writer_checks(name, table, config):
        yield check
    if name != "draft" and config.models.draft and (other := await other_tokens(config.models.draft, table)):
        yield other
