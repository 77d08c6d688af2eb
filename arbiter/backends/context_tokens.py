"""The tokens of a context, as a model reads it that goes on from what it wrote itself. Pure functions.

A model reads its own steps as the tokens that it wrote. All other text becomes the tokens that it would be within one
whole text, so that decoding in steps is decoding in one go:

- The text before the first step is tokenised alone, as a server does that gets the question only.
- Texts of other models next to each other are tokenised together. Where a step ends, its last white space may be one
  token at the end of a text and two before a word, as in the vocabulary of GPT-2. So what follows decides: the next
  step, or a letter in the place of the step that is to be written.
- A text after tokens is tokenised as it stands after them: some tokenizers add a space at the beginning of a text.

Where a token would cover such a border, both sides are tokenised alone.
"""

from collections.abc import Callable, Sequence

from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.token_texts import TokenTexts, prompt_tokens
from arbiter.protocols.ports import Proposal
from arbiter.protocols.records import Step, Transcript

_LETTER = "a"  # stands for a step that is not written yet: steps begin with a visible character
_LONGEST = 16  # tokens of the text before a border


def never(step: Step) -> bool:
    """Return False: a model that writes no steps reads all of them as text."""
    return False


def context_tokens(
    texts: TokenTexts,
    template: PromptTemplate,
    transcript: Transcript,
    separator: str,
    wrote: Callable[[Step], bool] = never,
) -> list[int]:
    """Return the tokens of a context that a model continues. ``wrote`` says which steps it wrote itself.

    With a template that names the authors of steps or writes channels, no step continues the tokens before it, and all
    are read as text.
    Raises ``BackendError`` if the model's own chat template refuses the conversation.
    """
    text, ids = template.head(transcript, separator), list[int]()
    if not transcript.steps or template.annotate or template.calls == "harmony":
        return prompt_tokens(texts, text + template.render_steps(transcript, separator))
    is_head = True
    for step in transcript.steps:
        if not wrote(step):
            text, is_head = text + step.ended(separator), False
            continue
        ids += _run(texts, text, separator, is_first=not ids, is_head=is_head)
        ids += step.token_ids
        text, is_head = "", False
    return ids + _run(texts, text, separator, is_first=not ids, is_head=is_head)


def step_tokens(texts: TokenTexts, proposal: Proposal, separator: str, room: int) -> list[int]:
    """Return a proposed step as the model that checks it would write it: at most ``room`` − 1 tokens.

    One token is left for the model. Where it would use other tokens for the same text, it agrees with fewer of them;
    nothing else depends on it.
    """
    has_ended = proposal.stop_reason == "separator"
    text = proposal.text + separator if has_ended else proposal.text
    return within(texts, text, separator, _LETTER if has_ended else "")[: max(room - 1, 0)]


def within(texts: TokenTexts, text: str, before: str, after: str) -> list[int]:
    """Return the tokens of ``text`` where it stands between two texts, without special tokens."""
    ids = texts.encode(before + text + after, special=False)
    start = _border(texts, ids, before)
    end = _border_from_end(texts, ids, after) if after else len(ids)
    if start is not None and end is not None and start <= end:
        return ids[start:end]
    if after:
        return within(texts, text, before, "")
    return texts.encode(text, special=False)


def _run(texts: TokenTexts, text: str, separator: str, *, is_first: bool, is_head: bool) -> list[int]:
    """Return the tokens of text between own steps: the beginning of the context, or steps of other models."""
    if not text:
        return []
    if is_head:
        return prompt_tokens(texts, text)
    if not is_first:
        return within(texts, text, separator, _LETTER)
    ids = prompt_tokens(texts, text + _LETTER)
    end = _border_from_end(texts, ids, _LETTER)
    return prompt_tokens(texts, text) if end is None else ids[:end]


def _border(texts: TokenTexts, ids: Sequence[int], text: str) -> int | None:
    """Return after how many of ``ids`` the text at their beginning ends; None if a token covers its end."""
    for count in range(min(len(ids), _LONGEST) + 1):
        found = texts.decode(ids[:count])
        if len(found) >= len(text):
            return count if found == text else None
    return None


def _border_from_end(texts: TokenTexts, ids: Sequence[int], text: str) -> int | None:
    """Return before how many of ``ids`` the text at their end begins; None if a token covers its beginning."""
    return len(ids) - 1 if ids and texts.decode(ids[-1:]) == text else None
