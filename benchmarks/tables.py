"""Keep the tables in the documents equal to what the benchmarks compute in virtual time.

    python benchmarks/tables.py                       # compare; name the tables that differ
    python benchmarks/tables.py --write               # put the computed tables into the documents
    python benchmarks/tables.py --only speeds --write

A table is between ``<!-- table: NAME -->`` and ``<!-- end -->``, in ``README.md`` or below ``docs/``. Each table is a
function of stated parameters, so two computations agree byte for byte. ``tests/test_tables.py`` compares them with the
documents. The exit status is 1 if a table differs and is not written.
"""

import html
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import cyclopts
from blocks import COLUMNS as BLOCK_COLUMNS
from blocks import rows as block_rows
from call_times import CallWorkload
from call_times import table as call_times_table
from first_chunk import table as first_chunk_table
from gathering import COLUMNS, variants
from latency import Reading, Schedule, placements
from latency import measure as measure_latency
from markdown_tables import markdown
from schedule_tables import (
    beyond_best,
    latency_ratio,
    makespan,
    over_seeds,
    schedules,
    schedules_reading,
    schedules_varied,
)
from sweep import Found as Comparison
from sweep import scripted

from arbiter.data.known_sets import KNOWN
from arbiter.simulation.speeds import speed_of
from arbiter.simulation.synthetic_workload import AGREEING, Quantiles, SyntheticWorkload

ROOT = Path(__file__).parent.parent
SEPARATE = Quantiles((0.0, 0.0))
PARTLY = Quantiles((0.0, 0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.0, 1.0))
AHEAD, BOTH = "ahead", "both"
_BLOCK = re.compile(r"<!-- table: ([\w-]+) -->\n(.*?)<!-- end -->", re.DOTALL)


class Table(NamedTuple):
    """How a table is computed, and the marker of its test: ``nightly`` for half a minute or more."""

    compute: Callable[[], str]
    marker: Literal["nightly"] | None = "nightly"


class Place(NamedTuple):
    """A table in a document: its name, the document, and the text between the comments."""

    name: str
    document: Path
    text: str


class Varied(NamedTuple):
    """A row of the table ``models``: what differs from the first row, and a number of steps drafted ahead."""

    label: str
    draft: str = "1.5B"
    router: str = "PRM-1.5B"
    target: str = "7B"
    lookahead: int = 1
    agreeing: Quantiles = AGREEING


def main(*, only: list[str] | None = None, write: bool = False) -> int:
    """Compute the tables ``only`` (default: all of them), and compare them with the documents or ``write`` them."""
    places = [place for place in find_tables(ROOT) if only is None or place.name in only]
    computed = {name: TABLES[name].compute() for name in dict.fromkeys(place.name for place in places)}
    differing = [place for place in places if place.text != framed(computed[place.name])]
    for document in dict.fromkeys(place.document for place in differing) if write else ():
        text = document.read_text(encoding="utf-8")
        document.write_text(_BLOCK.sub(lambda block: _replaced(block, computed), text), encoding="utf-8")
    for place in differing:
        verb = "wrote" if write else "differs:"
        sys.stdout.write(f"{verb} {place.name} in {place.document.relative_to(ROOT)}\n")
    return int(bool(differing) and not write)


def find_tables(root: Path) -> list[Place]:
    """Return the marked tables of the documents below ``root``."""
    documents = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return [
        Place(block[1], document, block[2])
        for document in documents
        for block in _BLOCK.finditer(document.read_text(encoding="utf-8"))
    ]


def framed(table: str) -> str:
    """Return the text between the comments of a table: a blank line around it keeps Markdown parsers happy."""
    return f"\n{table}\n\n"


def _replaced(block: re.Match[str], computed: dict[str, str]) -> str:
    name = block[1]
    return f"<!-- table: {name} -->\n{framed(computed[name])}<!-- end -->" if name in computed else block[0]


def data_sets() -> str:
    """Return the data sets that have a name of their own."""
    rows: list[list[str]] = []
    for name, known in KNOWN.items():
        parts = [known.data.name, *filter(None, (known.data.subset, known.data.split))]
        prompt = "[its own](#prompts)" if known.prompt else "the model's template"
        licence = known.licence or "see its page"
        rows.append(
            [f"`{name}`", f"`{':'.join(parts)}`", licence, f"{known.rows:,}", prompt, known.grader, known.harness]
        )
    return markdown("name | source | licence | problems | prompt | grader | setting of", rows)


def prompts() -> str:
    """Return the prompts of the data sets, each once."""
    names: dict[str, list[str]] = {}
    for name, known in KNOWN.items():
        other = (
            (f" if `{known.prompt_with[0]}` is not empty", known.prompt_with[1]) if known.prompt_with else ("", None)
        )
        for condition, prompt in (("", known.prompt), other):
            if prompt is not None:
                names.setdefault(prompt, []).append(f"`{name}`{condition}")
    shown = {prompt: html.escape(prompt, quote=False).replace("`", "&#96;") for prompt in names}  # they have fences
    return "\n\n".join(f"{', '.join(users)}:\n\n<pre>\n{shown[prompt]}\n</pre>" for prompt, users in names.items())


def speeds() -> str:
    """Return the speeds of the simulated servers."""
    pairs = [("1.5B", 1), ("3B", 1), ("7B", 1), ("8B", 1), ("32B", 2), ("70B", 4)]
    rows: list[list[str]] = []
    for gpu in ("A100", "H100"):
        for model, gpus in pairs:
            speed = speed_of(model, gpu, gpus)
            rows.append(
                [
                    f"{model}, PRM-{model}" if model in ("1.5B", "7B") else model,
                    gpu if gpus == 1 else f"{gpus} × {gpu}",
                    f"{1e3 * speed.step:.2f}",
                    f"{1e6 * speed.sequence:.1f}",
                    f"{1e6 * speed.context:.1f}",
                    f"{speed.prefill:,.0f}",
                    f"{speed.cache_tokens / 1e6:.2f}",
                ]
            )
    header = (
        "model | GPU | `step`, ms | `sequence`, µs | `context`, µs | `prefill`, tokens/s | `cache_tokens`, millions"
    )
    return markdown(header, rows)


@cache
def _latency(problems: int, acceptance: float, varied: Varied) -> dict[str, Reading]:
    schedules = (
        Schedule("sequential", 0, "off"),
        Schedule(AHEAD, varied.lookahead, "off"),
        Schedule("verified", 0, "on"),
        Schedule(BOTH, varied.lookahead, "on"),
        Schedule("auto", None, "auto"),
    )
    world = SyntheticWorkload(problems, acceptance, agreeing=varied.agreeing)
    places = placements(varied.draft, varied.router, varied.target)
    return {one.schedule: one for one in measure_latency(world, places, schedules)}


def latency() -> str:
    """Return the latency of one problem at a time, by acceptance rate: 256 problems, the pair 1.5B and 7B."""
    rows: list[list[str]] = []
    for acceptance in (0.7, 0.8, 0.9):
        readings = _latency(256, acceptance, Varied(""))
        ahead, both, auto = (readings[name] for name in (AHEAD, BOTH, "auto"))
        sequential = readings["sequential"]
        rows.append(
            [
                f"{acceptance:g}",
                f"{sequential.latency:.3f}",
                *(f"{readings[name].ratio:.3f}" for name in (AHEAD, "verified", BOTH, "auto")),
                f"{sequential.spent['draft']:.2f}",
                "–" if ahead.hidden is None else f"{ahead.hidden:.0%}",
                ", ".join(f"{one.wasted_share:.1%}" for one in (ahead, both, auto)),
                ", ".join(f"{one.agreed:.0%}" for one in (both, auto)),
            ]
        )
    header = (
        "acceptance | sequential, s | ahead | verified | both | auto | drafts alone | hidden by ahead "
        "| wasted draft tokens: ahead, both, auto | agreed tokens: both, auto"
    )
    return markdown(header, rows)


def models() -> str:
    """Return the latency with other models and match lengths: 32 problems, one at a time."""
    variants = (
        Varied("1.5B, 7B"),
        Varied("1.5B, 70B on 4 × H100", target="70B@4xH100"),
        Varied("8B, 70B on 4 × H100", draft="8B", target="70B@4xH100"),
        Varied("1.5B, 7B, a router of 7B", router="PRM-7B"),
        Varied("1.5B, 7B, `--lookahead 3`", lookahead=3),
        Varied("1.5B, 7B, shorter matches (mean 0.43)", agreeing=PARTLY),
        Varied("1.5B, 7B, no match", agreeing=SEPARATE),
    )
    rows: list[list[str]] = []
    for varied in variants:
        at = {acceptance: _latency(32, acceptance, varied) for acceptance in (0.7, 0.9)}
        ratios = [f"{readings[name].ratio:.3f}" for name in (AHEAD, BOTH) for readings in at.values()]
        wasted = ", ".join(f"{readings[AHEAD].wasted_share:.1%}" for readings in at.values())
        rows.append([varied.label, *ratios, f"{at[0.9]['sequential'].spent['draft']:.2f}", wasted])
    header = (
        "draft, target | ahead at 0.7 | at 0.9 | both at 0.7 | at 0.9 | drafts alone at 0.9 "
        "| wasted draft tokens: ahead at 0.7, 0.9"
    )
    return markdown(header, rows)


@cache
def _sweep() -> dict[str, Comparison]:
    return scripted()


def sweep() -> str:
    """Return what a sweep over scripted models saves: 40 problems, 11 thresholds."""
    labels = {"routed": "as the pocket router gives them", "uniform": "all equally likely"}
    rows = [
        [
            labels[name],
            f"{one.steps:.1f}",
            f"{one.made.requests:,} of {one.separate.requests:,}",
            f"{one.of_separate:.1%}",
            f"{one.of_most:.2f}",
        ]
        for name, one in _sweep().items()
    ]
    header = "scores | steps per problem | requests made | / separate runs | / most expensive point"
    return markdown(header, rows)


def first_chunk() -> str:
    """Return the time to the first chunk of a stream, the router beside the target alone: 256 problems."""
    return first_chunk_table(SyntheticWorkload(256, 0.7), (1, 64))


def call_times() -> str:
    """Return the time to a whole tool call, the router beside the target alone: 256 answers."""
    return call_times_table(CallWorkload(256, 0.7), (1, 64))


def summary() -> str:
    """Return what was measured in virtual time, and what was to be reached."""
    saved = ", ".join(f"{1 - _latency(256, acceptance, Varied(''))[BOTH].ratio:.0%}" for acceptance in (0.7, 0.8, 0.9))
    rows = [
        ["makespan of 256 problems: lock-step as published / ours", over_seeds(makespan("published")), "6.3"],
        ["lock-step with the target on rejected steps only / ours", over_seeds(makespan("repaired")), "3.5"],
        ["plain loops / ours: makespan", over_seeds(makespan("gather")), "1.1"],
        ["plain loops / ours: mean latency", over_seeds(latency_ratio("gather")), "1.15"],
        ["makespan of ours / best known", over_seeds(beyond_best("ours")), "at most 1.12"],
        ["latency saved, one problem at a time, acceptance 0.7, 0.8, 0.9", saved, "20 % each"],
        ["requests of a sweep / separate runs", f"{_sweep()['routed'].of_separate:.0%}", "55 %"],
    ]
    return markdown("what | measured | goal", rows)


TABLES = {
    "data-sets": Table(data_sets, marker=None),
    "summary": Table(summary),
    "prompts": Table(prompts, marker=None),
    "speeds": Table(speeds, marker=None),
    "schedules": Table(schedules),
    "schedules-varied": Table(schedules_varied),
    "schedules-reading": Table(schedules_reading),
    "gathering": Table(lambda: markdown(f"changed | {' | '.join(COLUMNS)}", variants())),
    "blocks": Table(lambda: markdown(" | ".join(BLOCK_COLUMNS), block_rows())),
    "latency": Table(latency),
    "models": Table(models),
    "first-chunk": Table(first_chunk),
    "call-times": Table(call_times),
    "sweep": Table(sweep),
}

if __name__ == "__main__":
    sys.exit(cyclopts.App(default_command=main, result_action="return_value")())
