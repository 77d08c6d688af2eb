"""What a model's tokenizer says of the template, of the separator, and of the other model's tokens."""

from pathlib import Path
from typing import Any

import anyio.to_thread

from arbiter.backends.prompts import CHAT, QUESTION, chat_turn, prompt_template
from arbiter.backends.tokenizers import read_tokenizer
from arbiter.config.config import Config
from arbiter.config.model_tables import AnyModelTable, InProcessTable, ServedTable
from arbiter.pocket import PREFIX
from arbiter.protocols.errors import ConfigError
from arbiter.servers.doctor.findings import Check

_ENDS, _BEGINNINGS = ("42.", "so", "$x$"), ("Step", "The", "12+3", "$y$", "\\[", "So")
_SAMPLE = "12+30: 2+0=2,1+3=4: 42.\n\nSo $\\frac{1}{2}$ of the apples remain, that is, seventeen."


async def token_checks(table: AnyModelTable, config: Config) -> list[Check]:
    """Template and separator, looked at through the model's tokenizer, if that is known without asking a hub."""
    name = _tokenizer(table)
    if name is None:
        known = "tokenizer is not set, so that template and separator are not compared with the model's own"
        return [Check("template", known)] if isinstance(table, ServedTable) else []
    return await anyio.to_thread.run_sync(_looked_at, name, table, config.separator)


async def other_tokens(draft: AnyModelTable, table: AnyModelTable) -> Check | None:
    """A warning if the target's tokenizer is another than the draft's; None if not, or they are not known."""
    names = _tokenizer(draft), _tokenizer(table)

    def compare() -> bool:
        one, other = (read_tokenizer(name or "", "tokenizer", "leave it out") for name in names)
        return one(_SAMPLE)["input_ids"] == other(_SAMPLE)["input_ids"]

    try:
        if None in names or await anyio.to_thread.run_sync(compare):
            return None
    except ConfigError:
        return None
    lost = "a rejected draft is tokenised anew for the target to check, which agrees with less of it"
    return Check(
        "tokens",
        f"its tokenizer is another than the draft's: {lost}, and shares of tokens are of different tokens. No "
        "transcript depends on it",
        "warning",
    )


def _tokenizer(table: AnyModelTable) -> str | None:
    if table.tokenizer:
        return table.tokenizer
    path = table.server.path if isinstance(table, ServedTable) and table.server else None
    name = path or table.model
    on_this_machine = isinstance(table, InProcessTable) or name.startswith(PREFIX) or Path(name).is_dir()
    return name if on_this_machine else None


def _looked_at(name: str, table: AnyModelTable, separator: str) -> list[Check]:
    try:
        tokenizer = read_tokenizer(name, "the doctor", "leave the template as it is")
    except ConfigError as error:
        return [Check("template", f"not compared with the model's own: {error}")]
    return [_template(name, tokenizer, table), _separator(tokenizer, separator)]


def _template(name: str, tokenizer: Any, table: AnyModelTable) -> Check:  # noqa: ANN401
    if not tokenizer.chat_template:
        return Check("template", "its tokenizer has no template of its own")
    if table.prompt == CHAT:
        return Check("template", "the tokenizer's own")
    own = chat_turn(name, QUESTION).partition(QUESTION)[2]
    here = prompt_template(table.prompt, table.annotate, name).before_steps.partition(QUESTION)[2]
    if own in here:
        return Check("template", "begins the answer as the tokenizer's own template does")
    text = f"the tokenizer's own template goes from question to answer with {own!r}, prompt = {table.prompt!r} with"
    return Check("template", f'{text} {here!r}: set prompt = "chat", or the template of this family', "warning")


def _separator(tokenizer: Any, separator: str) -> Check:  # noqa: ANN401
    def tokens(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    for end in _ENDS:
        for beginning in _BEGINNINGS:
            context = tokens(end + separator)
            if tokens(end + separator + beginning)[: len(context)] != context:
                return Check(
                    "separator",
                    f"the tokenizer merges the separator {separator!r} with what comes next ({beginning!r}): each "
                    "context ends inside of a token, which costs the model its habits and the prefix cache its end. "
                    "Choose a separator that ends where a token does",
                    "warning",
                )
    return Check("separator", f"{separator!r} ends where a token does")
