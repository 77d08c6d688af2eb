r"""Remove markup from answers: commands such as ``\text``, emphasis, and marks around words.

All functions are pure and take time linear in their input, so they may run on the event loop.
"""

import re

_WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textrm|texttt|mathrm|mathbf|mbox|operatorname)\s*\{(?P<inside>[^{}]*)\}"
)
_MARKS = re.compile(r"[$`]|(?<!\w)_+|(?<!_)_+(?!\w)")
_EMPHASIS = re.compile(
    r"(?<![\w*)\]}])(?P<stars>\*{1,3})(?P<inside>[^*\s](?:[^*]*[^*\s])?)(?P=stars)(?![\w*(\[{])"
    r"|(?<!\S)\*{2,3}(?=[^*\s])|(?<=[^*\s])\*{2,3}(?![^\s.,:;!?)])"  # only one end of it is in the answer
)


def unwrapped(text: str) -> str:
    r"""Return ``text`` with the content of ``\text{…}`` and the like in the place of the command."""
    return _WRAPPED.sub(lambda match: match["inside"], text)


def without_markup(text: str) -> str:
    """Return ``text`` without such commands, dollar signs, backquotes, and asterisks and underscores around words.

    Those within a word stay, and so does an asterisk between two operands.
    """
    return _MARKS.sub("", _EMPHASIS.sub(lambda match: match["inside"] or "", unwrapped(text)))
