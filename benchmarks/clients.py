"""Check that silent, slow and malformed clients cannot take the endpoint down.

    python benchmarks/clients.py [--silent 600] [--slow 200] [--honest 200] [--fuzzed 100000] [--seed 0] [--json]

The endpoint runs in a process of its own with scripted models and 1024 file descriptors. First, ``silent`` clients
connect and send nothing, and ``slow`` ones send a byte every two seconds, half of them in the headers and half in the
body. Meanwhile ``honest`` clients ask a question each. The figures are their answers and seconds, and how many of the
others were closed.

Then ``fuzzed`` requests with random fields, values, bytes, headers, methods and paths are sent (``fuzzing.py``). The
figures are the statuses, what is open at the end, and the memory of the endpoint.
"""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from statistics import median
from typing import Annotated

import aiohttp
import anyio
import cyclopts
import msgspec
from anyio.abc import ByteStream
from child_environment import child_environment
from cyclopts import Parameter
from fuzzing import FuzzedRequest, fuzzed_request
from scripted_endpoint import State

HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
QUESTION = {"model": "arbiter", "prompt": "Compute 12+30."}
AT_ONCE = 32
SETTLED = 5_000  # fuzzed requests after which memory should not grow


class Crowd(msgspec.Struct, frozen=True):
    """Honest clients, those that were answered and their seconds; silent and slow clients, and those closed."""

    honest: int
    answered: int
    median_seconds: float
    most_seconds: float
    silent: int
    silent_closed: int
    slow: int
    slow_closed: int
    after: State


class Fuzzing(msgspec.Struct, frozen=True):
    """How many answers had each status (0: the connection was closed instead), and the state before and after."""

    requests: int
    statuses: dict[int, int]
    settled: State
    after: State

    @property
    def failures(self) -> int:
        """The answers with a status of 500 or more."""
        return sum(count for status, count in self.statuses.items() if status >= 500)


class Measured(msgspec.Struct, frozen=True):
    """Both checks."""

    crowd: Crowd
    fuzzing: Fuzzing


class Endpoint(msgspec.Struct, frozen=True):
    """A running endpoint."""

    process: "subprocess.Popen[str]"
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def state(self) -> State:
        """Return the state once nothing is open, or after ten seconds."""
        found = self._ask()
        for _ in range(100):
            if not (found.connections or found.problems or found.running):
                break
            await anyio.sleep(0.1)
            found = self._ask()
        return found

    def _ask(self) -> State:
        if self.process.stdin is None or self.process.stdout is None:
            raise SystemExit("the endpoint has no pipes")
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return msgspec.json.decode(self.process.stdout.readline(), type=State)


def main(
    *,
    silent: int = 600,
    slow: int = 200,
    honest: int = 200,
    pause: float = 0.3,
    fuzzed: int = 100_000,
    seed: int = 0,
    patience: float = 60.0,
    head: float = 15.0,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Run both checks, and print the figures.

    Parameters
    ----------
    silent
        Clients that connect and send nothing.
    slow
        Clients that send a byte every two seconds.
    honest
        Clients that ask a question each.
    pause
        Seconds between two honest clients. With 0, all ask at the same time.
    fuzzed
        The number of fuzzed requests.
    seed
        The seed of the fuzzed requests.
    patience
        The seconds in which the endpoint waits for a body.
    head
        The seconds in which the endpoint waits for headers.
    as_json
        Print the figures as JSON.
    """
    with served(patience, head) as endpoint:
        measured = anyio.run(_measure, endpoint, silent, slow, honest, pause, fuzzed, seed, patience + head)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(measured)).decode() + "\n" if as_json else _text(measured))


def _text(measured: Measured) -> str:
    crowd, fuzzing = measured.crowd, measured.fuzzing
    return (
        f"{crowd.silent} silent clients ({crowd.silent_closed} closed), {crowd.slow} slow ones ({crowd.slow_closed} "
        f"closed): {crowd.answered} of {crowd.honest} honest ones answered, in {crowd.median_seconds:.3f} s (median) "
        f"and {crowd.most_seconds:.3f} s (longest)\n"
        f"{fuzzing.requests} fuzzed requests, {fuzzing.failures} answers of 500 and more: {fuzzing.statuses}\n"
        f"after {SETTLED} of them: {fuzzing.settled}\n"
        f"at the end: {fuzzing.after}\n"
    )


@contextmanager
def served(patience: float, head: float) -> Generator[Endpoint]:
    """Start the endpoint in a process of its own."""
    script = str(Path(__file__).parent / "scripted_endpoint.py")
    command = [sys.executable, script, "--patience", str(patience), "--head", str(head)]
    environment, pipe = child_environment(), subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:  # noqa: S603
        try:
            if process.stdout is None or not (url := process.stdout.readline().strip()):
                raise SystemExit("the endpoint did not start")
            yield Endpoint(process, url)
        finally:
            process.terminate()


async def _measure(
    endpoint: Endpoint, silent: int, slow: int, honest: int, pause: float, fuzzed: int, seed: int, within: float
) -> Measured:
    crowd = await _crowd(endpoint, silent, slow, honest, pause, within)
    return Measured(crowd, await _fuzz(endpoint, fuzzed, Random(seed)))


async def _crowd(endpoint: Endpoint, silent: int, slow: int, honest: int, pause: float, within: float) -> Crowd:
    closed, seconds = Counter[str](), list[float]()
    async with anyio.create_task_group() as waiting:
        for number in range(silent + slow):
            stream = await anyio.connect_tcp("127.0.0.1", endpoint.port)
            waiting.start_soon(_hold, stream, number - silent, closed)
        async with anyio.create_task_group() as asking:
            for _ in range(honest):
                asking.start_soon(_ask, endpoint.url, seconds)
                await anyio.sleep(pause)
        with anyio.move_on_after(within + 15):
            while closed.total() < silent + slow:  # noqa: ASYNC110 - each counts itself
                await anyio.sleep(0.05)
        waiting.cancel_scope.cancel()
    middle, most = (median(seconds), max(seconds)) if seconds else (0.0, 0.0)
    after = await endpoint.state()
    return Crowd(honest, len(seconds), middle, most, silent, closed["silent"], slow, closed["slow"], after)


async def _ask(url: str, seconds: list[float]) -> None:
    """Ask a question over a new connection; without an answer, add no seconds."""
    began = time.monotonic()
    try:
        async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/completions", json=QUESTION) as answer:
            if answer.status == 200 and "step 2" in (await answer.json())["choices"][0]["text"]:
                seconds.append(time.monotonic() - began)
    except aiohttp.ClientError:
        pass


async def _hold(stream: ByteStream, number: int, closed: Counter[str]) -> None:
    """Hold a connection until it is closed: without sending if ``number`` is negative, else sending slowly."""

    async def drip() -> None:
        if number < 0:
            return
        await stream.send(HEAD + (b"content-length: 1000\r\n\r\n" if number % 2 else b"x-slow: "))
        while True:
            await anyio.sleep(2)
            await stream.send(b" ")

    async def wait() -> None:
        while True:
            await stream.receive()

    try:
        async with stream, anyio.create_task_group() as both:
            both.start_soon(drip)
            both.start_soon(wait)
    except* (anyio.EndOfStream, anyio.BrokenResourceError, OSError):
        closed["silent" if number < 0 else "slow"] += 1


async def _fuzz(endpoint: Endpoint, count: int, random: Random) -> Fuzzing:
    statuses, left = Counter[int](), iter(range(count))
    settled: list[State] = []

    async def work(session: aiohttp.ClientSession, until: int) -> None:
        for number in left:
            statuses[await _send(endpoint, session, fuzzed_request(random))] += 1
            if number + 1 >= until:
                return

    for until in (min(SETTLED, count), count):
        connector = aiohttp.TCPConnector(limit=AT_ONCE)
        async with aiohttp.ClientSession(connector=connector) as session, anyio.create_task_group() as workers:
            for _ in range(AT_ONCE):
                workers.start_soon(work, session, until)
        settled.append(await endpoint.state())
    return Fuzzing(count, dict(sorted(statuses.items())), settled[0], settled[-1])


async def _send(endpoint: Endpoint, session: aiohttp.ClientSession, request: FuzzedRequest) -> int:
    """Return the status of the answer; 0 if the connection was closed instead."""
    if request.raw is not None:
        return await _send_raw(endpoint.port, request.raw)
    url = f"{endpoint.url}{request.path}"
    try:
        async with session.request(request.method, url, data=request.body, headers=request.headers) as answer:
            if not request.leaves:
                await answer.read()
            return answer.status
    except aiohttp.ClientError:
        return 0


async def _send_raw(port: int, raw: bytes) -> int:
    try:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(raw)
            await stream.send_eof()
            with anyio.move_on_after(5):
                line = (await stream.receive()).split(b"\r\n")[0].split()
                return int(line[1]) if len(line) > 1 and line[1].isdigit() else 0
    except (anyio.EndOfStream, anyio.BrokenResourceError, OSError):
        pass
    return 0


if __name__ == "__main__":
    cyclopts.App(default_command=main)()
