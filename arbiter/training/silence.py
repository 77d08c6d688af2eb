"""Keeping the model library's own bars and hints off the terminal, where ours are."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager

import transformers


@contextmanager
def quiet() -> Generator[None]:
    """Leave the library's settings as they were."""
    logging = transformers.utils.logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # adapters and model library name each other's old names
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
