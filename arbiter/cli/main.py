"""The command line: ``arbiter COMMAND``.

The command ``arbiter`` and ``python -m arbiter`` import this module first, so it imports next to nothing itself.
"""

import gc
import sys


def collect_seldom() -> None:
    """Look for cycles of garbage seldom.

    The ring makes next to none, and with thousands of problems in flight looking for them would cost more than all else
    that it does. A library leaves that to its host; this process is our own.
    """
    gc.set_threshold(50_000, 10, 50)


def main() -> None:
    """Run the command line."""
    if sys.argv[1:] == ["--version"]:  # answered without the parser, which takes longer to import than all the rest
        from arbiter import __version__

        sys.stdout.write(f"{__version__}\n")
        return
    from arbiter.cli.application import run

    collect_seldom()
    sys.exit(run(sys.argv[1:]))
