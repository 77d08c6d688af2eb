"""``arbiter doctor``: is everything there that a configuration names?"""

import anyio
from rich.markup import escape

from arbiter.commands.shell import FAILED, app, guarded, stdout
from arbiter.config import Config, load_config
from arbiter.doctor import examine

_MARKS = {"ok": "[green]ok[/green]     ", "warning": "[yellow]warning[/yellow]", "failed": "[red]failed[/red] "}


@app.command(name="doctor")
def doctor_command(config: str, /, *, debug: bool = False) -> int:
    """Ask each model of a configuration a small question, and tell what was seen, a line each.

    Is the server there, does it serve the model, does a step stop at the separator, are seeds honoured, what do
    scores look like? The exit status is 0 if no model failed.

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
    return guarded(debug, lambda: anyio.run(_told, load_config(config)))


async def _told(config: Config) -> int:
    failed = False
    async for finding in examine(config):
        failed |= finding.state == "failed"
        told = "; ".join(finding.told)
        stdout.print(f"{_MARKS[finding.state]} {finding.model:<6} {escape(told)}", highlight=False, soft_wrap=True)
    return FAILED if failed else 0
