"""Checks with a model's tokenizer: the template, the separator, and the tokens of the other model."""

from typing import Any

import anyio.to_thread

from arbiter.backends.prompts import CHAT, QUESTION, chat_turn, prompt_template
from arbiter.backends.served.prompt_form import prompt_tokenizer
from arbiter.backends.token_texts import TransformersTokenTexts, prompt_tokens
from arbiter.backends.tokenizers import known_tokenizer, read_tokenizer
from arbiter.config.config import Config
from arbiter.config.model_tables import AnyModelTable, ServedTable, is_chat
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import GenerationRequest
from arbiter.servers.doctor.findings import Check

_ENDS, _BEGINNINGS = ("42.", "so", "$x$"), ("Step", "The", "12+3", "$y$", "\\[", "So")
_SAMPLE = "12+30: 2+0=2,1+3=4: 42.\n\nSo $\\frac{1}{2}$ of the apples remain, that is, seventeen."


async def token_checks(table: AnyModelTable, config: Config) -> list[Check]:
    """Check template and separator with the model's tokenizer, if it is known without a request to a hub."""
    name = known_tokenizer(table)
    if name is None:
        skipped = "not checked: without the key tokenizer, template and separator cannot be compared with the model's"
        return [Check("template", skipped)] if isinstance(table, ServedTable) else []
    return await anyio.to_thread.run_sync(_compared, name, table, config.separator)


async def count_check(table: AnyModelTable, request: GenerationRequest, counted: int) -> Check | None:
    """Compare ``counted``, the server's count of the prompt of ``request``, with the model's tokenizer.

    None if the server does not count, or if the tokenizer is not known.
    """
    name = prompt_tokenizer(table) if isinstance(table, ServedTable) and counted else None
    if name is None:
        return None

    def expected() -> int:
        texts = TransformersTokenTexts(read_tokenizer(name, "the doctor", "leave tokenizer out"))
        template = prompt_template(table.prompt, table.annotate, name, table.turns)
        return len(prompt_tokens(texts, template.render(request.transcript, request.separator)))

    try:
        tokens = await anyio.to_thread.run_sync(expected)
    except ConfigError:
        return None
    if tokens == counted:
        return Check("prompt", f"the server read the {tokens} tokens of the prompt")
    text = f"the server read {counted} tokens where the prompt has {tokens}: "
    more = "it puts prompts into a template of its own, adds a start token, or has another tokenizer"
    fewer = "it cuts prompts, leaves out a start token, or has another tokenizer"
    fix = "set tokenizer to the one that is served, or switch the server's own template off"
    return Check("prompt", f"{text}{more if counted > tokens else fewer}; {fix}", "warning")


async def other_tokens(draft: AnyModelTable, table: AnyModelTable) -> Check | None:
    """Return a warning if the target's tokenizer differs from the draft's; None if not, or if one is unknown."""
    names = known_tokenizer(draft), known_tokenizer(table)

    def compare() -> bool:
        one, other = (read_tokenizer(name or "", "tokenizer", "leave it out") for name in names)
        return one(_SAMPLE)["input_ids"] == other(_SAMPLE)["input_ids"]

    try:
        if None in names or await anyio.to_thread.run_sync(compare):
            return None
    except ConfigError:
        return None
    effect = "verified escalation tokenises rejected drafts again and keeps less of them"
    return Check(
        "tokens",
        f"its tokenizer differs from the draft's: {effect}, and shares of tokens compare different tokens. Transcripts "
        "do not change",
        "warning",
    )


def _compared(name: str, table: AnyModelTable, separator: str) -> list[Check]:
    try:
        tokenizer = read_tokenizer(name, "the doctor", "leave the template as it is")
    except ConfigError as error:
        return [Check("template", f"not checked against the model's own: {error}")]
    return [_template(name, tokenizer, table), _separator(tokenizer, separator)]


def _template(name: str, tokenizer: Any, table: AnyModelTable) -> Check:  # noqa: ANN401
    if is_chat(table):
        return Check("template", "not checked: the host puts messages into the model's own")
    if not tokenizer.chat_template:
        return Check("template", "not checked: its tokenizer has no template")
    if table.prompt == CHAT:
        return _chat_ids(name, tokenizer)
    own = chat_turn(name, QUESTION).partition(QUESTION)[2]
    here = prompt_template(table.prompt, table.annotate, name).before_steps.partition(QUESTION)[2]
    if own in here:
        return Check("template", "starts the answer like the tokenizer's own template")
    text = f"between question and answer the tokenizer's own template has {own!r}, but prompt = {table.prompt!r} has"
    return Check("template", f'{text} {here!r}: set prompt = "chat", or the template of this model family', "warning")


def _chat_ids(name: str, tokenizer: Any) -> Check:  # noqa: ANN401
    """Check that the text of the prompt has the tokens of the template."""
    own = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    if prompt_tokens(TransformersTokenTexts(tokenizer), chat_turn(name, QUESTION)) == own:
        return Check("template", "the tokenizer's own")
    text = "the tokenizer's own, but its text has other tokens than the template: set prompt to the text of a template"
    return Check("template", text, "warning")


def _separator(tokenizer: Any, separator: str) -> Check:  # noqa: ANN401
    def tokens(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    for end in _ENDS:
        for beginning in _BEGINNINGS:
            context = tokens(end + separator)
            if tokens(end + separator + beginning)[: len(context)] != context:
                return Check(
                    "separator",
                    f"the tokenizer merges the separator {separator!r} with the text after it ({beginning!r}), so each "
                    "context ends inside a token: the model writes worse, and the prefix cache misses the end. Choose "
                    "a separator that ends at a token boundary",
                    "warning",
                )
    return Check("separator", f"{separator!r} ends at a token boundary")
