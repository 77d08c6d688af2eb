"""Models that call tools: their calls are read from whole steps, in the form of the model's family."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from arbiter.backends.bounded_steps import BoundedSteps
from arbiter.backends.call_formats.forms import FORMS, SPECIAL_MARKS
from arbiter.backends.call_formats.reading import CallForm, ReadStep, read_after, read_step
from arbiter.backends.prompts import CHAT, PromptTemplate
from arbiter.backends.step_boundaries import OutsideBlocks
from arbiter.backends.token_texts import TokenTexts
from arbiter.backends.wrapped_generator import WrappedGenerator, written_by
from arbiter.config.model_tables import AnyModelTable, CallFormName, is_chat
from arbiter.protocols.answer_tokens import tokens_within
from arbiter.protocols.model_traits import WritesBlocks, thought_opening
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, Say
from arbiter.protocols.records import Step, Transcript
from arbiter.protocols.tools import AnswerRules, Effort, ToolCall, content_of
from arbiter.structured.thoughts import text_after_first_thought


class CallingGenerator(WrappedGenerator):
    """A ``Generator`` over ``inner`` that returns the calls in its steps as data.

    ``form`` is the form in which the model writes calls. None if it cannot be offered tools; ``without_tools`` then
    says why, and how to change that. ``opens_thought`` is True if the prompt opens a thought, within which answers
    begin, and ``thinks`` if the model may open one itself. ``efforts`` are those that its prompts can request, and
    whether the prompt then opens a thought. A thought is at the beginning of an answer, and has no calls, whatever it
    says. An answer that must fit a schema is one step, after those of the thought.
    """

    def __init__(
        self,
        inner: Generator,
        form: CallForm | None,
        without_tools: str | None = None,
        opens_thought: bool = False,
        thinks: bool = False,
        efforts: Mapping[Effort, bool] = {},
    ) -> None:
        super().__init__(inner)
        self._without_tools = without_tools
        self._form = form
        self._opens_thought = opens_thought
        self._thinks = thinks
        self._efforts = efforts

    @property
    def writes_blocks(self) -> bool:
        """Whether the model can write several steps in one request."""
        return isinstance(self.inner, WritesBlocks) and self.inner.writes_blocks

    async def generate_block(self, request: GenerationRequest, steps: int) -> tuple[Generation, ...]:
        """Write a block of steps, which have no rules. Raises as ``inner``."""
        assert isinstance(self.inner, WritesBlocks)  # noqa: S101 - it says so
        return await self.inner.generate_block(request, steps)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step. A separator does not end it within a call, or within an answer that must fit a schema.

        Within a thought, no constraint holds. Raises as ``inner``.
        """
        rules, form = request.transcript.rules, self._form_for(request)
        if rules is None or (form is None and rules.schema is None):
            return await self.inner.generate(request)
        before = calls_before(request.transcript)
        if before and form is not None:
            request = msgspec.structs.replace(request, transcript=_in_form(form, request.transcript, before))

        def is_open(written: str) -> bool:
            _, text = self._divided(request, written[len(request.written) :])
            if rules.schema is not None and text.strip():
                return True
            return form is not None and read_after(form, before, text, rules.offered).is_open

        if self._after_thought(request, request.written) is None:
            request = msgspec.structs.replace(request, constraint=None)
        answer = await BoundedSteps(self.inner, OutsideBlocks(is_open)).generate(request)
        if form is None or (request.constraint is not None and request.constraint == rules.schema):
            return answer
        thought, text = self._divided(request, answer.text)
        step = self._read(form, text, rules, request, before)
        if not step.calls and step.violation is None and not before:
            return answer
        valid, kept = None if step.violation is None else False, thought + step.content
        tokens = answer.tokens
        if (step.calls or before) and tokens is not None:
            tokens = tokens_within(tokens, 0, _common(answer.text, kept))
        return msgspec.structs.replace(
            answer, text=kept, calls=step.calls, valid=valid, violation=step.violation, tokens=tokens
        )

    async def stream(self, request: GenerationRequest, say: Say) -> Generation:
        """Write one step as ``generate``. Its text is passed on to ``say`` where no call is read from it.

        Rules that request an effort alone change nothing about that.
        """
        rules = request.transcript.rules
        if self._form_for(request) is None and (rules is None or rules.schema is None):
            return await written_by(self.inner, request, say)
        return await self.generate(request)

    def over(self, wrap: Callable[[Generator], Generator]) -> "CallingGenerator":
        """Return a generator that reads the calls of ``wrap(inner)`` in the same form."""
        return CallingGenerator(
            wrap(self.inner), self._form, self._without_tools, self._opens_thought, self._thinks, self._efforts
        )

    @property
    def without_tools(self) -> str | None:
        """Why the model cannot be offered tools, and how to change that; None if it can."""
        return self._without_tools

    @property
    def opens_thought(self) -> bool:
        """Whether answers begin within a thought, which the prompt opens."""
        return self._opens_thought

    @property
    def thinks(self) -> bool:
        """Whether the model may begin an answer with a thought that it opens itself."""
        return self._thinks

    @property
    def efforts(self) -> Mapping[Effort, bool]:
        """The efforts that the prompts can request, and whether the prompt then opens a thought."""
        return self._efforts

    def _form_for(self, request: GenerationRequest) -> CallForm | None:
        """Return the form in which a step may have calls; None if it may have none."""
        rules = request.transcript.rules
        return self._form if rules is not None and rules.offered else None

    def _divided(self, request: GenerationRequest, text: str) -> tuple[str, str]:
        """Return the part of a step that is a thought, and the part after it."""
        after = self._after_thought(request, request.written + text)
        end = 0 if after is None else min(len(after), len(text))
        return text[: len(text) - end], text[len(text) - end :]

    def _after_thought(self, request: GenerationRequest, text: str) -> str | None:
        rules = request.transcript.rules
        opening = thought_opening(self, rules.effort if rules is not None else None)
        return text_after_first_thought(text, request.in_thought or opening == "prompt")

    def _read(
        self,
        form: CallForm,
        text: str,
        rules: AnswerRules,
        request: GenerationRequest,
        before: Sequence[ToolCall],
    ) -> ReadStep:
        """Return the calls in ``text``. Under a constraint, an engine writes a bare JSON object, as Llama does."""
        if request.constraint is not None and (bare := read_step(FORMS["llama-3"], text)).calls:
            return bare
        return read_after(form, before, text, rules.offered)


def calls_before(transcript: Transcript) -> tuple[ToolCall, ...]:
    """Return the calls with which the steps of a transcript end: the answer has made them already."""
    return tuple(call for step in transcript.steps for call in step.calls)


def _in_form(form: CallForm, transcript: Transcript, calls: tuple[ToolCall, ...]) -> Transcript:
    """Return the transcript with the calls of the answer so far in one step, as the model itself would write them."""
    first = next(index for index, step in enumerate(transcript.steps) if step.calls)
    begin = transcript.steps[first]
    content = content_of(begin.text, begin.calls)
    text = f"{content}\n{form.begun(calls)}" if content else form.begun(calls)
    written = Step(text, begin.author, begin.target, calls=calls)
    return msgspec.structs.replace(transcript, steps=(*transcript.steps[:first], written))


def _common(text: str, other: str) -> int:
    """Return the length of the longest text with which both begin."""
    pairs = enumerate(zip(text, other, strict=False))
    return next((index for index, (one, two) in pairs if one != two), min(len(text), len(other)))


def hidden_marks(texts: TokenTexts, form: CallForm, model: str) -> str | None:
    """Return why a model in process, whose tokenizer is ``texts``, cannot write calls in ``form``; None if it can."""
    hidden = [mark for mark in form.marks if mark in texts.special]
    if not hidden:
        return None
    return (
        f"{model}: its marks of calls are special tokens ({', '.join(hidden)}), which the texts of a model in "
        "process leave out. Serve the model with sglang or vLLM"
    )


def dropped_marks(calls: CallFormName | None, model: str) -> str | None:
    """Return why a model behind a server that drops special tokens cannot write calls in a form; None if it can."""
    if calls not in SPECIAL_MARKS or not FORMS[calls].marks:
        return None
    return (
        f"{model}: its marks of calls are special tokens ({', '.join(FORMS[calls].marks)}), which only sglang and vLLM "
        "are known to keep in their texts. Serve the model with one of them, and name it with the key engine"
    )


def unwrapped(generator: Generator) -> Generator:
    """Return the model itself, without the reading of its calls."""
    return generator.inner if isinstance(generator, CallingGenerator) else generator


def without_tools(name: str, table: AnyModelTable, template: PromptTemplate) -> str | None:
    """Return why the model of the table ``[models.name]`` cannot be offered tools; None if it can."""
    if template.calls is not None:
        return None
    if is_chat(table):
        return f"models.{name}.api: its prompts are chat completions. Use a server with /v1/completions"
    if table.prompt == CHAT:
        known = ", ".join(FORMS)
        return f"models.{name}: its chat template writes calls in no known form. Set calls to one of {known}"
    return (
        f'models.{name}.prompt: {table.prompt!r} has no form for calls. Set it to "{CHAT}", the chat template of the '
        "tokenizer, or to a template of Qwen"
    )
