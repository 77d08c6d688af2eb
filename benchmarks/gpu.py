"""Compare the router with the target alone on models of the paper's sizes in process, on a GPU if there is one.

    python benchmarks/gpu.py [--pair llama|qwen|tiny] [--in-flight 1 16 64] [--steps 5] [--seconds 400] [--json]

The models have random weights (``benchmarks/random_models.py``): bfloat16 on a GPU, float32 on a CPU. By default the
pair is ``llama`` on a GPU, and two tiny models without one. A script sets the length of each step and which drafts are
accepted (``benchmarks/scripted_ring.py``). The models, their engine and the ring are the real ones. Scores cost
nothing: the router is meant as a head on the draft.

A figure is the wall time of the target alone, divided by that of the router on the same problems. The target alone
always keeps keys and values. The variants are:

- ``plain``: keys and values are kept between the steps of a problem; nothing else.
- ``no KV kept``: each request reads its whole context.
- ``gathering``: escalations gather before they go to the target.
- ``verified escalation``: the target reads each rejected draft and keeps half of it.
- ``drafting ahead``: ``lookahead = 1``. Scores take no time and no rejected draft equals the target's step, so this
  can only cost; the figure shows how much.
- ``all together``: kept, gathered, verified and ahead.

Rows are measured in the order of their importance until ``--seconds`` are over. Those that do not fit are named.

The checks solve problems with the tiny pair in float32: exact variants must write the same transcripts as ``plain``,
and a GPU the same as the CPU. If transcripts differ, the exit status is 1.
"""

import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Literal

import anyio
import cyclopts
import msgspec
import torch
from cyclopts import Parameter
from cyclopts.types import NonNegativeFloat, PositiveInt
from model_speeds import ModelSpeed, measure_speed, speed_table
from random_models import Pair, random_pair
from scripted_ring import ALL, EXACT, PLAIN, VERIFIED, Outcome, Script, Variant, differing, solve

MAIN = 0.7
OTHERS = (0.5, 0.9)
CELLS = (
    (PLAIN, MAIN),
    (ALL, MAIN),
    *((variant, MAIN) for variant in (*EXACT, VERIFIED)),
    *((variant, acceptance) for acceptance in OTHERS for variant in (PLAIN, ALL)),
)
"""What is compared with the target alone, in the order of importance."""
_CHECKED = 8  # problems of a check, half of them in flight
_CPU = torch.device("cpu")


class Cell(msgspec.Struct, frozen=True):
    """A run of the router. ``ratio`` is the seconds of the target alone divided by ``seconds``.

    The other figures are those of ``scripted_ring.Outcome``.
    """

    variant: str
    acceptance: float
    in_flight: int
    seconds: float
    ratio: float
    accepted: float
    reused: float
    held: int
    ahead: int
    matched: float


class Checks(msgspec.Struct, frozen=True):
    """How many of ``problems`` transcripts differ: per exact variant from ``plain``, and on a GPU from the CPU.

    ``gpu`` is None without a GPU.
    """

    problems: int
    variants: dict[str, int]
    gpu: int | None

    @property
    def passed(self) -> bool:
        """Whether no transcript differs."""
        return not any(self.variants.values()) and not self.gpu


class Found(msgspec.Struct, frozen=True):
    """All results. ``target`` has the seconds of the target alone by number in flight; ``left_out`` names rows."""

    device: str
    date: str
    torch: str
    command: str
    pair: str
    checks: Checks
    speeds: list[ModelSpeed]
    target: dict[int, float]
    cells: list[Cell]
    left_out: list[str]


class Budget:
    """Wall time for measurements. A measurement fits if it would end in time when it takes as long as the longest."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._longest: dict[int, float] = {}

    def fits(self, in_flight: int) -> bool:
        """Whether one more measurement fits: as long as the longest of as many problems, or else of any number."""
        known = self._longest.get(in_flight, max(self._longest.values(), default=0.0))
        return time.monotonic() + known < self._end

    def spent(self, in_flight: int, seconds: float) -> None:
        """Record a measurement."""
        self._longest[in_flight] = max(self._longest.get(in_flight, 0.0), seconds)


def main(
    *,
    pair: Literal["llama", "qwen", "tiny"] | None = None,
    in_flight: Annotated[tuple[PositiveInt, ...], Parameter(consume_multiple=True)] = (1, 16, 64),
    steps: PositiveInt = 5,
    seconds: NonNegativeFloat = 400.0,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Check, measure, and print the tables.

    Parameters
    ----------
    pair
        The shapes of the models; by default llama on a GPU, tiny without one.
    in_flight
        The numbers of problems in flight.
    steps
        The number of steps of each problem, about 40 tokens each.
    seconds
        The wall time after which no measurement starts.
    """
    budget = Budget(seconds)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = pair or ("tiny" if device == _CPU else "llama")
    counts = " ".join(map(str, in_flight))
    command = f"python benchmarks/gpu.py --pair {chosen} --in-flight {counts} --steps {steps} --seconds {seconds:g}"
    name = _CPU.type.upper() if device == _CPU else torch.cuda.get_device_name(device)
    _say(f"checks on {name}")
    checks = anyio.run(check, device, steps)
    models = random_pair(chosen, device, torch.float32 if device == _CPU else torch.bfloat16, device)
    _say(f"speeds of {models.draft.name} and {models.target.name}")
    speeds = [anyio.run(measure_speed, model, name) for model in (models.draft, models.target)]
    target, cells, left_out = anyio.run(measure, models, in_flight, steps, budget)
    found = Found(
        name,
        datetime.now(UTC).date().isoformat(),
        str(torch.__version__),
        command,
        chosen,
        checks,
        speeds,
        target,
        cells,
        left_out,
    )
    sys.stdout.write(f"{msgspec.json.encode(found).decode()}\n" if as_json else render(found))
    if not checks.passed:
        sys.exit(1)


async def check(device: torch.device, steps: int) -> Checks:
    """Compare transcripts of the tiny pair between variants, and between ``device`` and the CPU."""
    pair = random_pair("tiny", device, torch.float32, _CPU)
    script = Script(_CHECKED, steps, pair.vocabulary)

    async def transcripts(pair: Pair, variant: Variant) -> dict[str, str]:
        return (await solve(pair, script, variant, _CHECKED // 2, MAIN)).transcripts

    plain = await transcripts(pair, PLAIN)
    variants = {variant.name: differing(await transcripts(pair, variant), plain) for variant in EXACT}
    if device == _CPU:
        return Checks(_CHECKED, variants, None)
    on_cpu = await transcripts(random_pair("tiny", _CPU, torch.float32, _CPU), PLAIN)
    return Checks(_CHECKED, variants, differing(plain, on_cpu))


async def measure(
    pair: Pair, counts: Iterable[int], steps: int, budget: Budget
) -> tuple[dict[int, float], list[Cell], list[str]]:
    """Measure the target alone and all ``CELLS``, as long as the budget lasts, after a run that warms up.

    Return the seconds of the target alone by number in flight, the cells, and the names of the rows left out.
    """
    scripts = {count: Script(_problems(count), steps, pair.vocabulary) for count in counts}
    target: dict[int, float] = {}
    cells: list[Cell] = []
    left_out: list[str] = []
    await solve(pair, Script(max(scripts), 1, pair.vocabulary), ALL, max(scripts), MAIN)
    for variant, acceptance in ((PLAIN, None), *CELLS):
        for count, script in scripts.items():
            label = _label(variant.name if acceptance is not None else "target alone", acceptance, count)
            if not budget.fits(count) or (acceptance is not None and count not in target):
                _say(f"{label}: left out")
                left_out.append(label)
                continue
            outcome = await solve(pair, script, variant, count, acceptance)
            budget.spent(count, outcome.seconds)
            _say(f"{label}: {outcome.seconds:.2f} s")
            if acceptance is None:
                target[count] = outcome.seconds
            else:
                cells.append(_cell(variant, acceptance, count, outcome, target[count]))
    return target, cells, left_out


def _problems(in_flight: int) -> int:
    """Return how many problems are solved: some begin when others end, and 10 times as many steps divide evenly."""
    return 2 * -(-3 * in_flight // 4)


def _cell(variant: Variant, acceptance: float, in_flight: int, outcome: Outcome, target: float) -> Cell:
    return Cell(
        variant.name,
        acceptance,
        in_flight,
        outcome.seconds,
        target / outcome.seconds,
        outcome.accepted,
        outcome.reused,
        outcome.held,
        outcome.ahead,
        outcome.matched,
    )


def _label(name: str, acceptance: float | None, in_flight: int) -> str:
    accepted = "" if acceptance is None else f", acceptance {acceptance:g}"
    return f"{name}{accepted}, {in_flight} in flight"


def render(found: Found) -> str:
    """Return the tables as Markdown."""
    cells = {(cell.variant, cell.acceptance, cell.in_flight): cell for cell in found.cells}
    counts = sorted({cell.in_flight for cell in found.cells} | found.target.keys())
    columns = " | ".join(f"{count} in flight" for count in counts)
    lines = [f"{found.device}, {found.date}, torch {found.torch}: `{found.command}`", ""]
    lines += [f"| target alone / router | acceptance | {columns} |", "|---" * (2 + len(counts)) + "|"]
    for variant, acceptance in CELLS:
        row = [cells.get((variant.name, acceptance, count)) for count in counts]
        ratios = " | ".join("left out" if cell is None else f"{cell.ratio:.2f} ({cell.seconds:.2f} s)" for cell in row)
        lines.append(f"| {variant.name} | {acceptance:g} | {ratios} |")
    alone = " | ".join(f"1 ({found.target[count]:.2f} s)" if count in found.target else "left out" for count in counts)
    lines += [f"| target alone | – | {alone} |", ""]
    if found.left_out:
        lines += [f"Left out, because the time was over: {'; '.join(found.left_out)}", ""]
    lines += [*speed_table(found.speeds), "", "In brackets: divided by the simulator's figure, where it has one.", ""]
    return "\n".join([*lines, *_check_lines(found.checks), ""])


def _check_lines(checks: Checks) -> list[str]:
    lines = [
        f"{name}: {count} of {checks.problems} transcripts differ from plain" for name, count in checks.variants.items()
    ]
    if checks.gpu is None:
        return [*lines, "GPU and CPU: skipped, because there is no GPU"]
    return [*lines, f"GPU and CPU: {checks.gpu} of {checks.problems} transcripts differ"]


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    cyclopts.run(main)
