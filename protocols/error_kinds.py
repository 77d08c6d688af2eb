"""The kind of an error, by the name that a log gives it."""


def error_kind(error: str) -> str:
    """Return the kind of an error text of the log, which has the form ``[actor, step n: ]Kind: text``.

    A text without one is of the kind ``_OTHER``.
    """
    head = error.partition(", caused by ")[0].split(": ")
    return next((part for part in head if part.isidentifier() and part[:1].isupper()), "_OTHER")
