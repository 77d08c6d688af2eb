"""``python -m arbiter``: the same as the command ``arbiter``."""

from arbiter.cli.main import main

if __name__ == "__main__":
    main()
