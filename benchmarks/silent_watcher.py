"""A watcher for runs whose progress no test looks at."""

from collections.abc import Callable, Mapping, Sequence

from arbiter.actors.slots import Occupancy
from arbiter.config.config import Config
from arbiter.config.model_tables import RouterTable
from arbiter.protocols.records import StepRecord
from arbiter.runs.results import Result


class SilentWatcher:
    """A watcher that ignores everything."""

    def loading(self, config: Config, tables: Mapping[str, RouterTable] | None = None) -> None: ...

    def notice(self, text: str) -> None: ...

    def started(self, solutions: int, earlier: Sequence[Result]) -> None: ...

    def solving(self, occupancy: Callable[[], Mapping[str, Occupancy]]) -> None: ...

    def kept(self, problem: str, sample: int, step: StepRecord) -> None: ...

    def solved(self, result: Result) -> None: ...
