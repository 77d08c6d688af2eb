"""How a server is requested to write JSON that fits a schema. What cannot be requested is said once.

Sources: sglang 0.5.23, ``CompletionRequest`` in ``srt/entrypoints/openai/protocol.py``; vLLM's ``structured_outputs``;
``json_schema`` of llama.cpp's server; ``response_format`` of OpenAI's chat completions.
"""

import json
import logging
from typing import Any

from arbiter.config.model_tables import ServedEngine

log = logging.getLogger("arbiter.backends")

_LARGEST = 2**63
_NAME = "answer"


def constraint_fields(schema: str, engine: ServedEngine | None, is_chat: bool) -> dict[str, Any] | None:
    """Return the fields that constrain an answer to ``schema``, which is JSON text; None if no field is known.

    ``engine`` is that of the server, if it is known. ``is_chat``: the request is one for a chat completion.
    """
    if is_chat:
        named = {"name": _NAME, "schema": _data(schema), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    match engine:
        case "sglang":
            return {"json_schema": schema}
        case "vllm":
            return {"structured_outputs": {"json": schema}}
        case "llama.cpp":
            return {"json_schema": _data(schema)}
        case _:
            return None


class ServerConstraints:
    """The constraints of a model at ``where``. A model that cannot keep one writes freely, which is said once."""

    def __init__(self, engine: ServedEngine | None, is_chat: bool, where: str) -> None:
        self._engine: ServedEngine | None = engine
        self._is_chat = is_chat
        self._where = where
        self._is_said = False

    def fields(self, schema: str | None) -> dict[str, Any] | None:
        """Return the fields that constrain an answer to ``schema``; None without a schema, or without known fields."""
        if schema is None:
            return None
        fields = constraint_fields(schema, self._engine, self._is_chat)
        if fields is None:
            self._say("its engine is not known. Set engine to the engine that is served there")
        return fields

    def refused(self, error: Exception) -> None:
        """Note that the server refused a constraint."""
        self._say(str(error))

    def _say(self, reason: str) -> None:
        if not self._is_said:
            self._is_said = True
            log.warning("%s writes without a constraint, and its answers are only checked: %s", self._where, reason)


def _data(schema: str) -> Any:  # noqa: ANN401 - JSON
    """Return the data of a schema. Integers that do not fit into 64 bits become floats: bodies cannot hold them."""
    return json.loads(schema, parse_int=_integer)


def _integer(digits: str) -> int | float:
    number = int(digits)
    return number if abs(number) < _LARGEST else float(number)
