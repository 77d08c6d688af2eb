"""Lower bounds on the time of any schedule of the same requests."""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from itertools import accumulate
from statistics import fmean

from arbiter.protocols.records import Model
from arbiter.simulation.engine import EngineWork, Speed


class Bounds:
    """Lower bounds in seconds for the requests added so far, on servers of the given speeds.

    The requests of a problem come one after another, so a problem takes at least their sum on idle servers
    (``Speed.alone``). A server takes at least the time of its requests' tokens if at most ``together`` requests share
    each pass (``Speed.least``).
    """

    def __init__(self, speeds: Mapping[Model, Speed], together: int) -> None:
        self._speeds = speeds
        self._together = together
        self._alone: dict[Hashable, float] = defaultdict(float)
        self._least = {name: defaultdict[Hashable, float](float) for name in speeds}

    def add(self, server: Model, problem: Hashable, work: EngineWork, cached: int) -> float:
        """Add a request with ``cached`` prompt tokens in the cache. Return its seconds on an idle server."""
        prompt = sum(text.tokens for text in work.prompt)
        completion = work.completion.tokens if work.completion else 0
        speed = self._speeds[server]
        alone = speed.alone(prompt, cached, completion)
        self._alone[problem] += alone
        self._least[server][problem] += speed.least(prompt, cached, completion, self._together)
        return alone

    def makespan(self, concurrency: int) -> float:
        """Return the lower bound for all problems, with ``concurrency`` of them at a time."""
        alone = self._alone.values()
        return max(sum(alone) / concurrency, *alone, *(sum(each.values()) for each in self._least.values()))

    def latency(self) -> float:
        """Return the lower bound of the mean latency if all problems start together.

        The j-th problem to end takes at least the j-th smallest sum of idle times. It also takes at least the time that
        each server needs for the j problems with the least work for it.
        """
        least = [sorted(each[name] for name in self._alone) for each in self._least.values()]
        return fmean(map(max, zip(sorted(self._alone.values()), *map(accumulate, least), strict=True)))
