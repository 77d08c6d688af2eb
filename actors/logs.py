"""Logging as a guest: through the standard library's, which a host program sets up, or leaves quiet."""

import logging

import structlog
from structlog.stdlib import BoundLogger


def logger(name: str) -> BoundLogger:
    """A structured logger whose fields are those of the standard library's records.

    It is quiet below a warning until somebody sets logging up, and leaves a host program's own structlog alone.
    """
    bound: BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=BoundLogger,
    )
    return bound
