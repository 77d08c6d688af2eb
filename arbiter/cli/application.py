"""The commands of ``arbiter``. The module of a command is imported only when the command is called."""

from collections.abc import Sequence

import cyclopts

from arbiter.cli.console import print_error, show_notices, silence_libraries, stdout, version

COMMANDS = (
    "bench",
    "collect",
    "convert",
    "diff",
    "doctor",
    "evaluate",
    "export",
    "fit",
    "grade",
    "init",
    "replay",
    "report",
    "reproduce",
    "runs",
    "serve",
    "show",
    "simulate",
    "solve",
    "sweep",
    "train",
    "tune",
    "up",
    "view",
)
"""The command names. ``NAME_command`` in the module ``arbiter.cli.NAME`` is a function or an app with subcommands."""

app = cyclopts.App(
    name="arbiter",
    help_format="markdown",
    version=version,
    console=stdout,
    default_parameter=cyclopts.Parameter(negative=()),
    help=(
        "Step-level speculative reasoning: a small draft model proposes each reasoning step. The large target model is "
        "called only where it is expected to write a better one."
    ),
)
# cyclopts declares no types for the keyword arguments of this method
app.register_install_completion_command(  # pyright: ignore[reportUnknownMemberType]
    help="Install completion of commands and options for your shell."
)
for _name in COMMANDS:
    app.command(f"{__package__}.{_name}:{_name}_command", name=_name)


def run(arguments: Sequence[str]) -> int | None:
    """Run the command that ``arguments`` name, and return the exit status."""
    show_notices()
    if arguments[:1] != ["up"] and "--debug" not in arguments:  # the servers of ``up`` inherit the environment
        silence_libraries()
    if arguments[:1] not in [[name] for name in COMMANDS]:
        app.resolved_commands()  # the help lists all commands, each with its docstring's first line
    try:
        return app(arguments, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        return print_error(" ".join(str(error).split()))
