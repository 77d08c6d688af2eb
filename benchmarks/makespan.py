"""How long a run with one long problem takes, with problems that are claimed and with static shards.

    python benchmarks/makespan.py [--workers 8] [--problems 100] [--long 50] [--places 1]

The times are simulated: a problem takes 1, the long one ``--long``. The bound is the larger of the longest problem and
all work divided by all places. No schedule is shorter. ``tests/arbiter/distributed/test_makespan.py`` checks this.
"""

import argparse
import heapq
import sys
from collections.abc import Sequence

from arbiter.distributed.ledger import Ledger


def bound(seconds: Sequence[float], places: int) -> float:
    """Return the time that no schedule on ``places`` places can beat."""
    return max(max(seconds), sum(seconds) / places)


def claimed(seconds: Sequence[float], workers: int, places: int = 1) -> float:
    """Return when the last problem ends if ``workers`` claim one for each free place."""
    ledger = Ledger(len(seconds), lease=1e9)
    ends: list[tuple[float, int, int]] = []
    holding: dict[int, list[int]] = {worker: [] for worker in range(workers)}
    now = 0.0

    def claim(worker: int) -> None:
        for grant in ledger.claim(str(worker), places - len(holding[worker]), holding[worker], now):
            holding[worker].append(grant.token)
            heapq.heappush(ends, (now + seconds[grant.task], worker, grant.token))

    for worker in range(workers):
        claim(worker)
    while ends:
        now, worker, token = heapq.heappop(ends)
        holding[worker].remove(token)
        ledger.finish(token)
        claim(worker)
    return now


def sharded(seconds: Sequence[float], workers: int, places: int = 1) -> float:
    """Return when the last problem ends if each worker has an equal part of the list from the beginning."""
    return max(claimed(seconds[worker::workers], 1, places) for worker in range(workers))


def main(arguments: Sequence[str]) -> None:
    """Print a table: a line for each position of the long problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("workers", 8), ("problems", 100), ("long", 50), ("places", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args(arguments)
    lines = ["| the long problem is | claimed / bound | shards / bound | shards / claimed |", "|---|---|---|---|"]
    positions = {"first": 0, "in the middle": options.problems // 2, "last": options.problems - 1}
    for name, position in positions.items():
        seconds = [1.0] * options.problems
        seconds[position] = options.long
        best = bound(seconds, options.workers * options.places)
        ours, others = (schedule(seconds, options.workers, options.places) / best for schedule in (claimed, sharded))
        lines.append(f"| {name} | {ours:.2f} | {others:.2f} | {others / ours:.2f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
