"""Every error that Arbiter raises, in one tree, named by the border where it arises.

``ArbiterError``
├── ``ConfigError``       a configuration file or an option is wrong (nothing has started)
├── ``DataError``         a problem file is missing or malformed (nothing has started)
├── ``RunError``          a run folder cannot be used
├── ``ReportError``       a report cannot be written
├── ``BackendError``      a model could not be loaded, reached or understood
│   ├── ``ContextTooLongError``  the prompt leaves no room in the model's context
│   ├── ``ConversationError``    the model's chat template refuses the conversation
│   └── ``RecordedError``        a request failed when it was recorded, and so it does again
├── ``DivergedError``         a problem that is replayed has left its recording, and goes no further
├── ``ProblemError``      one problem could not be solved; the others go on
├── ``ClosedError``       the ring was closed while the problem was in it
└── ``RequestError``      a request to the endpoint is refused
"""


class ArbiterError(Exception):
    """Base of all errors raised by Arbiter; its text is written for the person who has to act on it."""


class ConfigError(ArbiterError):
    """A configuration key, value or option is wrong. The text names the file, the key and the way out."""


class DataError(ArbiterError):
    """A problem file is missing or malformed. The text names the file and the line."""


class RunError(ArbiterError):
    """A run folder cannot be created, read or continued."""


class ReportError(ArbiterError):
    """A report on runs cannot be written or drawn. The text names the folder and the reason."""


class BackendError(ArbiterError):
    """A model could not be loaded, reached or understood."""


class ContextTooLongError(BackendError):
    """The prompt leaves no room in the model's context."""


class ConversationError(BackendError):
    """The model's chat template refuses the conversation: say, its roles must alternate."""


class RecordedError(BackendError):
    """A request failed when it was recorded; its text is what was told of it then."""


class DivergedError(ArbiterError):
    """A problem that is replayed has left its recording, and goes no further."""


class ProblemError(ArbiterError):
    """One problem could not be solved; its cause is the ``__cause__``, or told in the text."""


class ClosedError(ArbiterError):
    """The ring was closed while the problem was still in it. Not a fault of the problem or of a model."""


class RequestError(ArbiterError):
    """A request to the endpoint is refused. ``status`` is the one of HTTP; ``code`` and ``param`` are as OpenAI has
    them; ``retry_after`` is in seconds, where trying again helps.
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
