"""Keep the progress bars and hints of transformers off the terminal, where Arbiter shows its own."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager

import transformers


@contextmanager
def quiet() -> Generator[None]:
    """Silence transformers within the block, and restore its settings at the end."""
    logging = transformers.utils.logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # peft and transformers use each other's deprecated names
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
