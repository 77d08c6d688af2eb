"""The command line: ``arbiter COMMAND``.

``arbiter`` and ``python -m arbiter`` import this module first, so it imports as little as possible.
"""

import gc
import sys


def collect_seldom() -> None:
    """Make the garbage collector search for cycles less often.

    The ring creates almost no cycles. With thousands of problems in flight, searching for them would cost more than the
    ring's other work. Only the command line does this: a library must not change the settings of its host process.
    """
    gc.set_threshold(50_000, 10, 50)


def main() -> None:
    """Run the command line."""
    if sys.argv[1:] == ["--version"]:  # without the parser, which takes longer to import than everything else here
        from arbiter import __version__

        sys.stdout.write(f"{__version__}\n")
        return
    from arbiter.cli.application import run
    from arbiter.cli.terminal import flush

    collect_seldom()
    status = run(sys.argv[1:])
    flush()
    sys.exit(status)
