"""The commands of ``arbiter`` by name. The module of a command is imported when the command is called."""

from collections.abc import Sequence

import cyclopts

from arbiter.cli.console import show_notices, tell, version

COMMANDS = (
    "bench",
    "collect",
    "convert",
    "diff",
    "doctor",
    "evaluate",
    "export",
    "grade",
    "replay",
    "report",
    "reproduce",
    "serve",
    "show",
    "simulate",
    "solve",
    "sweep",
    "train",
    "tune",
    "up",
)
"""``NAME_command`` of the module ``arbiter.cli.NAME`` is a function, or an application that has commands."""

app = cyclopts.App(
    name="arbiter",
    help_format="markdown",
    version=version,
    default_parameter=cyclopts.Parameter(negative=()),
    help="Step-level speculative reasoning: a small model drafts, the big one is called only where it helps.",
)
# its keyword arguments have no types
app.register_install_completion_command(  # pyright: ignore[reportUnknownMemberType]
    help="Install the completion of commands and options for your shell."
)
for _name in COMMANDS:
    app.command(f"{__package__}.{_name}:{_name}_command", name=_name)


def run(arguments: Sequence[str]) -> int | None:
    """Run the command that ``arguments`` name; the exit status."""
    show_notices()
    if arguments[:1] not in [[name] for name in COMMANDS]:
        app.resolved_commands()  # the help lists all commands, and the first line of a docstring describes each
    try:
        return app(arguments, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        return tell(" ".join(str(error).split()))
