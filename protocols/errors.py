"""All errors that Arbiter raises, in one class tree. Each is named after the part where it occurs.

``ArbiterError``
├── ``ConfigError``       a configuration file or an option is wrong (nothing has started)
├── ``DataError``         a problem file is missing or malformed (nothing has started)
├── ``RunError``          a run folder cannot be used
├── ``ReportError``       a report cannot be written
├── ``BackendError``      a model could not be loaded, reached or understood
│   ├── ``ContextTooLongError``  the prompt leaves no room in the model's context
│   ├── ``ConversationError``    the model's chat template refuses the conversation
│   └── ``RecordedError``        a request that failed when it was recorded fails again in the replay
├── ``DivergedError``         a replayed problem diverged from its recording and was stopped
├── ``ProblemError``      one problem could not be solved; the others continue
├── ``ClosedError``       the ring or the Arbiter is closed, or was closed before the problem ended
└── ``RequestError``      the endpoint refuses an HTTP request
"""

import errno


class ArbiterError(Exception):
    """Base of all errors raised by Arbiter. The text says what is wrong and, where possible, how to fix it."""


class ConfigError(ArbiterError):
    """A configuration key, value or option is wrong. The text names the file and the key, and says how to fix it."""


class DataError(ArbiterError):
    """A problem file is missing or malformed. The text names the file and the line."""


class RunError(ArbiterError):
    """A run folder cannot be created, read or resumed."""


class ReportError(ArbiterError):
    """A report on runs cannot be written or drawn. The text names the folder and the reason."""


class BackendError(ArbiterError):
    """A model could not be loaded, reached or understood."""


class ContextTooLongError(BackendError):
    """The prompt leaves no room in the model's context."""


class ConversationError(BackendError):
    """The model's chat template refuses the conversation, for example because roles must alternate."""


class RecordedError(BackendError):
    """A request that failed when it was recorded fails again. The text is the recorded error."""


class DivergedError(ArbiterError):
    """A replayed problem diverged from its recording and was stopped."""


class ProblemError(ArbiterError):
    """One problem could not be solved. The cause is in ``__cause__`` or in the text."""


class ClosedError(ArbiterError):
    """The ring or the Arbiter is closed, or was closed before the problem ended.

    Neither the problem nor a model is at fault.
    """


class RequestError(ArbiterError):
    """The endpoint refuses a request.

    ``status`` is the HTTP status. ``code`` and ``param`` have the meaning that OpenAI's API gives them. ``retry_after``
    is in seconds; None if a retry would not help.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after


def os_reason(error: OSError) -> str:
    """Return why the operating system refused something, and the fix if there are too many open files."""
    reason = error.strerror or str(error)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{reason}. Raise the limit of the process (ulimit -n), or lower limits.problems"
    return reason


def not_installed(what: str, packages: str | None, extra: str) -> str:
    """Return the error text for ``what``, which needs ``packages`` of the extra ``extra`` of Arbiter."""
    return f"{what} needs {packages}, which is not installed: pip install -e '.[{extra}]' in the folder of Arbiter"
