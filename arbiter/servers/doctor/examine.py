"""Checks every model of a configuration with a few small requests."""

from collections.abc import AsyncGenerator
from typing import get_args

from arbiter.backends.opening import refuse_missing_files
from arbiter.config.config import Config
from arbiter.config.model_tables import DraftHeadTable, RouterTable
from arbiter.protocols.errors import ArbiterError
from arbiter.protocols.records import ScoreKind
from arbiter.servers.doctor.findings import Check, Finding
from arbiter.servers.doctor.generator_checks import writer_checks
from arbiter.servers.doctor.scorer_checks import scorer_checks
from arbiter.servers.doctor.tokenizer_checks import other_tokens

_SCALES: dict[str, ScoreKind] = {scale: scale for scale in get_args(ScoreKind)}


async def examine(config: Config) -> AsyncGenerator[Finding]:
    """Yield a finding for each table ``[models.NAME]`` of ``config``, in their order."""
    for name, table in config.models.configured().items():
        checks: list[Check] = []
        try:
            async for check in _checks(name, table, config):
                checks += [check]  # one by one: the checks before an error are kept
        except ArbiterError as error:
            checks.append(Check("request", str(error).removeprefix(f"models.{name}: "), "failed"))
        yield Finding(name, tuple(checks))


async def _checks(name: str, table: RouterTable, config: Config) -> AsyncGenerator[Check]:
    refuse_missing_files(name, table)
    if name in _SCALES or isinstance(table, DraftHeadTable):
        async for check in scorer_checks(_SCALES[name], table, config):
            yield check
        return
    async for check in writer_checks(name, table, config):
        yield check
    if name != "draft" and config.models.draft and (other := await other_tokens(config.models.draft, table)):
        yield other
