"""``python -m arbiter``: the same as the command ``arbiter``."""

from arbiter.cli import main

if __name__ == "__main__":
    main()
