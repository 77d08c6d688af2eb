"""Answers of gpt-oss, which are messages in channels (harmony), as plain answers: a marked thought, then the content.

The channel ``analysis`` has the thought, ``final`` the content. In ``commentary`` there are calls, whose markup stays
(``call_formats/harmony.py``), and texts before them, which are content. Between steps, answers are plain.
"""

import re

import msgspec

from arbiter.backends.call_formats.harmony import Harmony
from arbiter.backends.wrapped_generator import WrappedGenerator
from arbiter.protocols.ports import Generation, GenerationRequest, Say
from arbiter.structured.thoughts import CLOSE_THOUGHT, OPEN_THOUGHT

_ANALYSIS, _FINAL, _COMMENTARY = (f"<|channel|>{name}<|message|>" for name in ("analysis", "final", "commentary"))
_START = "<|start|>assistant"
_NEXT = f"<|end|>{_START}"
_HEADER = re.compile(
    r"(?:<\|start\|>assistant)?(?: ?to=(?P<first>[^<\s]+))?<\|channel\|>(?P<channel>\w+)(?: to=(?P<second>[^<\s]+))?"
    r"[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
)
_END = re.compile(r"<\|(?:end|return|call)\|>")


class HarmonyGenerator(WrappedGenerator):
    """A ``Generator`` over ``inner``, a model that writes harmony. Its steps are plain.

    No proposal is read, and no text is passed on while it is written: both would be in the other form.
    """

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step. Raises as ``inner``."""
        answer = await self.inner.generate(msgspec.structs.replace(request, proposal=None))
        text = plain_step(answer.text, request.written, is_whole=answer.stop_reason == "end")
        return msgspec.structs.replace(answer, text=text)

    async def stream(self, request: GenerationRequest, say: Say) -> Generation:
        """Write one step as ``generate``. No text is passed on to ``say``."""
        return await self.generate(request)

    @property
    def without_logprobs(self) -> str | None:
        """Why the model cannot return log-probabilities: its tokens are not those of the plain answer."""
        return "the tokens of a model that writes harmony are not those of its answer. Use another model"


def plain_step(text: str, before: str, is_whole: bool = False) -> str:
    """Return a step in harmony as part of a plain answer. ``before`` is the plain answer before it.

    ``is_whole`` is True if the model has ended its answer, so a call at its end is whole: engines leave out its mark.
    """
    return _plain(harmony_of(before) + text, is_whole)[len(before) :]


def harmony_of(text: str) -> str:
    """Return the beginning of a plain answer in harmony, as it follows the prompt."""
    if not text:
        return ""
    if not text.startswith(OPEN_THOUGHT):
        return _content(text)
    thought, closed, after = text.removeprefix(OPEN_THOUGHT).partition(CLOSE_THOUGHT)
    return f"{_ANALYSIS}{thought}{_NEXT}{_content(after)}" if closed else _ANALYSIS + thought


def _content(text: str) -> str:
    content, opening, call = text.partition(Harmony.opening)
    if not opening:
        return _FINAL + content if content else ""
    return (f"{_COMMENTARY}{content}{_NEXT}" if content else "") + opening + call


def _plain(text: str, is_whole: bool) -> str:
    """Return an answer in harmony, from its beginning, as a plain answer.

    Thoughts in a row are one. A thought after the content is left out. Text without a header is content.
    """
    plain, at, in_thought = "", 0, False
    while at < len(text):
        header, bare = _HEADER.match(text, at), text[at:].removeprefix(_START)
        if header is None and (not bare or bare.startswith(("<|", " to="))):
            break  # the text ends within a header
        start = header.end() if header else len(text) - len(bare)
        end = _END.search(text, start)
        body = text[start : end.start() if end else len(text)]
        recipient = header and (header["first"] or header["second"])
        if header and header["channel"] == "analysis" and not recipient:
            if not plain or in_thought:
                plain += f"\n{body}" if in_thought else OPEN_THOUGHT + body
                in_thought = True
        else:
            plain += CLOSE_THOUGHT if in_thought else ""
            in_thought = False
            if recipient:
                mark = Harmony.closing if end or is_whole else ""
                plain += f"{Harmony.opening}{recipient} <|constrain|>json{Harmony.message}{body}{mark}"
            else:
                plain += body
        at = end.end() if end else len(text)
    return plain
