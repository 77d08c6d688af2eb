"""What docs/reference/stability.md promises is there: nothing in these lists may be renamed or removed."""

from collections.abc import Iterator
from pathlib import Path

import cyclopts
import msgspec
import pytest

from arbiter.cli.application import app
from arbiter.gateway.response_schemas import SolutionReport
from arbiter.runs.results import Summary
from arbiter.sweep.sweep_results import SweepResult, SweepRow

PROMISED = {
    line.split()[0].replace("/", " "): set(line.split()[1:])
    for line in (Path(__file__).parent / "stable_command_line.txt").read_text(encoding="utf-8").splitlines()
}

SUMMARY = """
    run_type threshold problems samples decoded graded failed accuracy accuracy_interval pass_at_k majority_vote
    acceptance_rate acceptance_rate_tokens steps escalations wasted_escalations target_calls requests tokens lookahead
    verification targets cost finish_reasons latency wall_seconds interrupted simulated prefix_caches kv_memory
    cpu_seconds comparison stopped
"""


def commands(parent: cyclopts.App, *path: str) -> Iterator[tuple[str, set[str]]]:
    """The commands below ``parent``, and the options of each."""
    for name, command in parent.resolved_commands().items():
        if name.startswith("-"):
            continue
        if command.default_command is not None:
            options = command.assemble_argument_collection()
            names = {name for option in options for name in option.names if name.startswith("--")}
            yield " ".join((*path, name)), names
        yield from commands(command, *path, name)


OFFERED = dict(commands(app))


@pytest.mark.parametrize("command", PROMISED)
def test_a_command_has_the_options_that_are_promised(command: str) -> None:
    assert PROMISED[command] - OFFERED[command] == set()


def test_every_command_is_promised() -> None:
    assert OFFERED.keys() == PROMISED.keys()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Summary, SUMMARY),
        (SweepResult, "measured interrupted points needed made most stopped"),
        (SweepRow, "point run_type threshold requests summary"),
        (SolutionReport, "id finish_reason seconds acceptance_rate steps step"),
    ],
)
def test_a_document_has_the_keys_that_are_promised(kind: type[msgspec.Struct], names: str) -> None:
    assert set(names.split()) - set(kind.__struct_encode_fields__) == set()
