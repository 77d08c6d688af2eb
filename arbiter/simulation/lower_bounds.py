"""What no schedule of the same requests can beat, whoever waits for whom."""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from itertools import accumulate
from statistics import fmean

from arbiter.protocols.records import Model
from arbiter.simulation.engine import EngineWork, Speed


class Bounds:
    """Seconds that the requests made so far take at least, at servers of the given speeds.

    A problem, whose requests come one after another, takes at least their sum on idle servers (``Speed.alone``). A
    server takes at least the time of its requests' tokens where at most ``together`` of them share each pass
    (``Speed.least``).
    """

    def __init__(self, speeds: Mapping[Model, Speed], together: int) -> None:
        self._speeds = speeds
        self._together = together
        self._alone: dict[Hashable, float] = defaultdict(float)
        self._least = {name: defaultdict[Hashable, float](float) for name in speeds}

    def add(self, server: Model, problem: Hashable, work: EngineWork, cached: int) -> float:
        """Count a request, of whose prompt so many tokens were ``cached``; its seconds on an idle server."""
        prompt = sum(text.tokens for text in work.prompt)
        completion = work.completion.tokens if work.completion else 0
        speed = self._speeds[server]
        alone = speed.alone(prompt, cached, completion)
        self._alone[problem] += alone
        self._least[server][problem] += speed.least(prompt, cached, completion, self._together)
        return alone

    def makespan(self, concurrency: int) -> float:
        """Of all problems, with so many of them at once."""
        alone = self._alone.values()
        return max(sum(alone) / concurrency, *alone, *(sum(each.values()) for each in self._least.values()))

    def latency(self) -> float:
        """The mean, with all problems at once from the beginning.

        The j-th problem to end ends no sooner than the j-th smallest sum of idle times, nor than any server has done
        the j problems with which it has least to do.
        """
        least = [sorted(each[name] for name in self._alone) for each in self._least.values()]
        return fmean(map(max, zip(sorted(self._alone.values()), *map(accumulate, least), strict=True)))
