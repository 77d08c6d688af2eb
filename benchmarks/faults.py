"""Run problems through a server with faults, and compare them with a run without faults.

    python benchmarks/faults.py [--steps 20000] [--share 0.3] [--json]

Draft, target and router are at ``faulty_server.py``. The same problems run twice, each time in a process of its own:
without faults, and with a fault in ``share`` of the requests. Reported are the problems that were lost, those that
differ although they did not fail, the failures without the cause that the server knows, and the memory of both runs.
Any of the first three, or more than 1.1 times the memory, ends the command with status 1.
"""

import hashlib
import re
import resource
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.request import urlopen

import anyio
import cyclopts
import msgspec
from child_environment import child_environment
from cyclopts import Parameter
from fault_kinds import FAULTS
from faulty_server import Sent, steps_of

from arbiter.actors.ring import open_ring, solve_all
from arbiter.config.config import Config, parse
from arbiter.protocols.messages import Task
from arbiter.protocols.records import FinishReason, Limits, Solution, Transcript
from arbiter.runs.model_opening import open_models

IN_FLIGHT = 64
MOST_MEMORY = 1.1
CAUSES = {fault.name: fault.cause for fault in FAULTS}


class Ended(msgspec.Struct, frozen=True):
    """How a problem ended: its reason, a digest of its text, its steps and its error."""

    reason: FinishReason
    digest: str
    steps: int
    error: str | None


class Outcome(msgspec.Struct, frozen=True):
    """A run: how often each problem ended and how, the peak of resident memory in MiB, and what the server sent."""

    ended: dict[str, list[Ended]]
    memory: float
    sent: Sent


class Measured(msgspec.Struct, frozen=True):
    """The comparison. ``steps`` are those of the run without faults.

    ``lost`` are problems that did not end exactly once. ``different`` are those that did not fail and differ from the
    run without faults. ``unexplained`` are failures whose error names no fault that the server sent for the problem,
    ``believed`` those that did not fail although the server sent a fault that no retry can help.
    """

    problems: int
    steps: int
    requests: int
    faults: dict[str, int]
    failed: int
    lost: list[str]
    different: list[str]
    unexplained: dict[str, str]
    believed: list[str]
    memory: float
    memory_without: float

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, silently different, unexplained or believed, and the memory is within bounds."""
        wrong = self.lost or self.different or self.unexplained or self.believed
        return not wrong and self.memory <= MOST_MEMORY * self.memory_without


def main(
    *,
    steps: int = 20_000,
    share: float = 0.3,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    run: Annotated[int | None, Parameter(show=False)] = None,
) -> None:
    """Run both, compare them, and print the figures.

    Parameters
    ----------
    steps
        The least number of steps of the run without faults.
    share
        The share of requests that have a fault.
    as_json
        Print the figures as JSON.
    run
        Make one run of this many problems, and print its outcome as JSON (used by the command itself).
    """
    if run is not None:
        outcome = anyio.run(_run, run, share)
        sys.stdout.write(msgspec.json.encode(outcome).decode())
        return
    problems = total = 0
    while total < steps:
        total += steps_of(problems)
        problems += 1
    measured = compare(_outcome(problems, 0.0), _outcome(problems, share), problems)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(measured)).decode() + "\n" if as_json else _text(measured))
    if not measured.passed:
        raise SystemExit(1)


def compare(right: Outcome, faulty: Outcome, problems: int) -> Measured:
    """Compare the run ``faulty`` with the run ``right``."""
    names = [str(number) for number in range(problems)]
    lost = [name for name in names if len(faulty.ended.get(name, [])) != 1 or len(right.ended.get(name, [])) != 1]
    pairs = {name: (right.ended[name][0], faulty.ended[name][0]) for name in names if name not in lost}
    failed = {name: ended.error or "" for name, (_, ended) in pairs.items() if ended.reason == "failed"}
    hopeless = faulty.sent.hopeless
    return Measured(
        problems=problems,
        steps=sum(ended.steps for ended, _ in pairs.values()),
        requests=faulty.sent.requests,
        faults=dict(sorted(faulty.sent.faults.items())),
        failed=len(failed),
        lost=lost,
        different=[name for name, (one, other) in pairs.items() if name not in failed and one != other],
        unexplained={
            name: error
            for name, error in failed.items()
            if not any(CAUSES[fault] in error for fault in hopeless.get(name, []))
        },
        believed=[name for name in hopeless if name not in failed],
        memory=faulty.memory,
        memory_without=right.memory,
    )


def _outcome(problems: int, share: float) -> Outcome:
    """Return the outcome of a run in a process of its own."""
    command = [sys.executable, __file__, "--run", str(problems), "--share", str(share)]
    made = subprocess.run(command, stdout=subprocess.PIPE, env=child_environment(), check=True)  # noqa: S603
    return msgspec.json.decode(made.stdout, type=Outcome)


async def _run(problems: int, share: float) -> Outcome:
    ended: dict[str, list[Ended]] = {}

    async def done(solution: Solution) -> None:
        digest = hashlib.blake2b(solution.text.encode(), digest_size=8).hexdigest()
        how = Ended(solution.finish_reason, digest, len(solution.steps), solution.error)
        ended.setdefault(solution.problem, []).append(how)

    with serving(share) as url:
        config = _config(url)
        limits = Limits(max_tokens=1 << 20)
        tasks = (
            Task(str(number), Transcript(f"Problem {number}."), config.policy(), limits) for number in range(problems)
        )
        async with open_models(config) as models, open_ring(models) as ring:
            await solve_all(ring, tasks, IN_FLIGHT, done)
        with urlopen(f"{url}/faults") as reply:  # noqa: S310, ASYNC210 - our own server, and nothing else runs
            sent = msgspec.json.decode(reply.read(), type=Sent)
    return Outcome(ended, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, sent)


def _config(url: str) -> Config:
    table = {
        "backend": "http",
        "url": url,
        "prompt": "{question}\n",
        "retries": 12,
        "timeout": 60,
        "in_flight": IN_FLIGHT,
    }
    models = {name: {**table, "model": name} for name in ("draft", "target", "router")}
    return parse({"models": models, "run_type": "router", "thresholds": {"router": 0.5}}, "benchmark")


@contextmanager
def serving(share: float) -> Generator[str]:
    """Start the server in a process of its own, and yield its address."""
    command = [sys.executable, str(Path(__file__).parent / "faulty_server.py"), str(share)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment()) as process:  # noqa: S603
        try:
            if process.stdout is None or not re.fullmatch(r"\d+\n", line := process.stdout.readline()):
                raise SystemExit("the server did not start")
            yield f"http://127.0.0.1:{line.strip()}"
        finally:
            process.terminate()


def _text(measured: Measured) -> str:
    ratio = measured.memory / measured.memory_without
    return (
        f"{measured.steps} steps of {measured.problems} problems, {measured.requests} requests, "
        f"{sum(measured.faults.values())} faults: {measured.faults}\n"
        f"lost: {len(measured.lost)}; different without a failure: {len(measured.different)}; failed: "
        f"{measured.failed}, of them without their cause: {len(measured.unexplained)}; permanent faults believed: "
        f"{len(measured.believed)}\n"
        f"memory: {measured.memory:.0f} MiB, {ratio:.2f} times that of the run without faults\n"
        + "".join(f"unexplained {name}: {error}\n" for name, error in list(measured.unexplained.items())[:5])
        + f"different: {measured.different[:5]}, believed: {measured.believed[:5]}\n" * (not measured.passed)
    )


if __name__ == "__main__":
    cyclopts.App(default_command=main)()
