"""``arbiter doctor``: is everything there that a configuration names?"""

import anyio
from rich.markup import escape

from arbiter.cli.console import FAILED, guarded, stdout
from arbiter.config.config import Config, load_config
from arbiter.servers.doctor import examine

_MARKS = {"ok": "[green]ok[/green]     ", "warning": "[yellow]warning[/yellow]", "failed": "[red]failed[/red] "}


def doctor_command(config: str, /, *, debug: bool = False) -> int:
    """Ask each model of a configuration small questions, and tell what was seen, a line a check.

    Is the server there, does it serve the model, is the template the model's own, does a step stop at the separator and
    an answer at its end, are seeds honoured, is the prefix cache on and reported, does a cancelled request end at the
    server, does it batch, what do scores of a right and of a wrong step look like, do the clocks agree? What is to be
    changed is said in the line. The exit status is 0 if no model failed.

    Examples:

        arbiter doctor pocket
        arbiter doctor configs/mine.toml

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in one (`pocket`).
    debug
        Show the traceback of an error.
    """
    return guarded(debug, lambda: anyio.run(_print_findings, load_config(config)))


async def _print_findings(config: Config) -> int:
    failed = False
    async for finding in examine(config):
        failed |= finding.state == "failed"
        for check in finding.checks:
            line = f"{_MARKS[check.state]} {finding.model:<8} {check.name:<10} {escape(check.text)}"
            stdout.print(line, highlight=False, soft_wrap=True)
    return FAILED if failed else 0
