"""A watcher for runs whose progress no test looks at."""

from collections.abc import Sequence

from arbiter.config.config import Config
from arbiter.runs.results import Result


class Nobody:
    """A watcher that ignores everything."""

    def loading(self, config: Config) -> None: ...

    def notice(self, text: str) -> None: ...

    def started(self, solutions: int, earlier: Sequence[Result]) -> None: ...

    def solved(self, result: Result) -> None: ...
