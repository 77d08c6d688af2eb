"""Grade texts and print the verdicts and the CPU seconds, for ``grading.py``. Runs in any checkout that has the grader.

    python benchmarks/graded_texts.py < PAIRS

Each line of the input is a JSON list of a text, its reference answer, and nothing or the keys of a ``Reference``. The
workers are warm before the time counts. It is that of this process and of its workers.
"""

import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_process

from arbiter import grading
from arbiter.grading.answers import Reference

Pair = tuple[str, "str | Reference"]
Grading = Callable[[str, "str | Reference"], Awaitable[Any]]


def opened(workers: int) -> tuple[Any, Grading]:
    """Return the mathematics grader of this checkout, and how a text is graded with it."""
    package: Any = grading
    if not hasattr(package, "MathGrader"):  # an earlier checkout
        earlier = package.Grader(workers=workers)
        return earlier, earlier.grade
    grader = package.MathGrader(workers=workers)
    return grader, lambda text, reference: grader.grade(package.GradingRequest(text, reference))


async def graded(pairs: list[Pair]) -> dict[str, object]:
    """Return the verdicts in the order of ``pairs``, and the CPU seconds of this process and of its worker."""
    (grader, grade), verdicts = opened(workers=1), dict[int, bool | None]()
    await grader.warm()
    await grade("\\boxed{x+1}", "1+x")  # so that the worker has imported what it needs
    worker = await anyio.to_process.run_sync(os.getpid)
    before = time.process_time() + _spent(worker)

    for index, (text, reference) in enumerate(pairs):
        verdicts[index] = (await grade(text, reference)).right
    seconds = time.process_time() + _spent(worker) - before
    return {"verdicts": [verdicts[index] for index in range(len(pairs))], "seconds": seconds}


def _spent(process: int) -> float:
    """Return the CPU seconds of a process, which Linux keeps in /proc; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pair(line: str) -> Pair:
    text, reference, keys = json.loads(line)
    return text, Reference(tuple(reference), keys["unit"], tuple(keys["tolerance"])) if keys else reference


if __name__ == "__main__":
    sys.stdout.write(json.dumps(anyio.run(graded, [_pair(line) for line in sys.stdin])))
