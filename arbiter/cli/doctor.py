"""``arbiter doctor``: check the models of a configuration with small requests."""

from contextlib import AbstractContextManager, nullcontext

import anyio
from rich.markup import escape

from arbiter.cli.console import FAILED, guarded, stderr, stdout
from arbiter.config.config import Config, load_config
from arbiter.servers.doctor import examine

_MARKS = {"ok": "[green]ok[/green]     ", "warning": "[yellow]warning[/yellow]", "failed": "[red]failed[/red] "}


def doctor_command(config: str, /, *, debug: bool = False) -> int:
    """Send small requests to each model of a configuration, and report one line per check.

    For all models: does the server answer, does it serve the model, do the clocks agree? For draft and target: is the
    prompt template the model's own? Does a step stop at the separator, and an answer at its end? Are seeds honoured? Is
    the prefix cache on and reported? Does a cancelled request end at the server? Are requests batched? For models that
    score: the scores of a right and of a wrong step.

    A line that reports a problem says how to fix it. The exit status is 0 if no check failed, otherwise 2.

    Examples:

        arbiter doctor pocket
        arbiter doctor configs/mine.toml

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in configuration (`pocket`).
    debug
        Show the traceback of an error.
    """
    return guarded(debug, lambda: anyio.run(_print_findings, load_config(config)))


async def _print_findings(config: Config) -> int:
    failed = False
    findings = examine(config)
    for name in config.models.configured():
        with _examining(name):
            finding = await anext(findings)
        failed |= finding.state == "failed"
        for check in finding.checks:
            line = f"{_MARKS[check.state]} {finding.model:<8} {check.name:<10} {escape(check.text)}"
            stdout.print(line, highlight=False, soft_wrap=True)
    return FAILED if failed else 0


def _examining(name: str) -> AbstractContextManager[object]:
    """Say on a terminal which model is examined, until its lines are there."""
    return stderr.status(f"examining {escape(name)}") if stderr.is_interactive else nullcontext()
