"""Operating points: parse the run type and the threshold from a model's name, and resolve aliases."""

from collections.abc import Mapping
from typing import get_args

import msgspec

from arbiter.config.run_tables import RunType
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import ConfigError, RequestError

NAME = "arbiter"
_RUN_TYPES: dict[str, RunType] = {run_type: run_type for run_type in get_args(RunType)}


class OperatingPoint(msgspec.Struct, frozen=True):
    """The parts of ``arbiter``, ``arbiter:RUN_TYPE`` or ``arbiter:RUN_TYPE@THRESHOLD``.

    None stands for the configured run type or threshold.
    """

    run_type: RunType | None = None
    threshold: float | None = None


class ModelNames:
    """The names of an Arbiter's models: its operating points, and ``aliases`` (further names for operating points).

    Raises ``ConfigError`` if an alias is empty, or could be the name of an operating point itself.
    """

    def __init__(self, arbiter: Arbiter, aliases: Mapping[str, str]) -> None:
        self._arbiter = arbiter
        self._aliases = dict(aliases)
        for alias in aliases:
            if not alias or alias.partition(":")[0] == NAME:
                raise ConfigError(
                    f"the alias {alias!r} (serve.aliases, --alias) must be a name that does not begin with {NAME}"
                )

    def listed(self) -> list[str]:
        """Return the names without thresholds: the configured point, each run type that is available, and the aliases.

        Raises ``ClosedError`` if the Arbiter is not open.
        """
        return [NAME, *(f"{NAME}:{run_type}" for run_type in self._arbiter.run_types), *self._aliases]

    def check_aliases(self) -> None:
        """Raise ``ConfigError`` if an alias is not the name of an operating point of the open Arbiter."""
        for alias in self._aliases:
            try:
                self.operating_point(alias)
            except RequestError as error:
                raise ConfigError(f"the alias {alias!r} (serve.aliases, --alias): {error}") from error

    def operating_point(self, name: str) -> OperatingPoint:
        """Return the operating point of ``name``. Raises ``RequestError`` (404) if it is unknown or unavailable."""
        return self._point(self._aliases.get(name, name))

    def _point(self, name: str) -> OperatingPoint:
        arbiter = self._arbiter
        base, colon, rest = name.partition(":")
        kind, at, threshold = rest.partition("@")
        if base != NAME or (colon and kind not in _RUN_TYPES):
            raise self._unknown(name, "unknown name")
        if not colon:
            return OperatingPoint()
        run_type = _RUN_TYPES[kind]
        why = arbiter.why_unavailable(run_type)
        if why is not None:
            raise self._unknown(name, f"{kind!r} is not available ({why})")
        if not at:
            return OperatingPoint(run_type)
        try:
            found = float(threshold)
            arbiter.config.with_run_type(run_type, "model", drop_budget=True).with_threshold(found, "model")
        except ValueError as error:
            raise self._unknown(name, f"{threshold!r} is not a valid threshold") from error
        except ConfigError as error:
            raise self._unknown(name, str(error)) from error
        return OperatingPoint(run_type, found)

    def _unknown(self, name: str, why: str) -> RequestError:
        known = ", ".join(self.listed())
        return RequestError(
            f"the model {name[:200]!r} does not exist: {why}. Available models: {known}. "
            "To set a threshold, add it after the run type, as in arbiter:router@0.4. "
            "For another name, start the server with --alias NAME=MODEL",
            status=404,
            code="model_not_found",
            param="model",
        )
