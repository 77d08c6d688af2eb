"""Whether a text is JSON that fits a JSON Schema, decided exactly, also for schemas and texts of strangers.

Drafts 4 to 2020-12 are read; a schema without ``$schema`` is of draft 2020-12. Numbers are compared by value, whatever
their size and their number of digits. ``format`` is checked for the formats of the standard. Nothing is ever fetched: a
``$ref`` leads to a place in the schema itself.
"""

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from arbiter.protocols.errors import ConfigError
from arbiter.structured.json_text import NotJsonError, depth_of, read_json

if TYPE_CHECKING:
    from arbiter.structured.compiled_schema import CompiledSchema

SCHEMA_LIMIT = 512 * 1024
"""How many characters a schema may have as JSON."""
BACKTRACKING_LIMIT = 4096
"""How many characters a text may have if a pattern of its schema has a look-around or a back reference."""

_CACHED = 64


def checked_schema(schema: object) -> None:
    """Return if ``schema`` is a JSON Schema that texts can be checked against: a dictionary, a bool, or its JSON text.

    Raises ``ConfigError`` with the reason, and with the place in the schema, if it is not.
    """
    _compiled(_schema_text(schema))


def violation_of(schema: object, text: str) -> str | None:
    """Return why ``text`` is no JSON that fits ``schema``; None if it is.

    ``schema`` is as in ``checked_schema``. The reason names the place in the text as a JSON pointer, and quotes no
    values. Equal arguments have equal reasons.
    Raises ``ConfigError`` if ``schema`` is no schema.
    """
    compiled = _compiled(_schema_text(schema))
    if compiled.backtracks and len(text) > BACKTRACKING_LIMIT:
        return f"it has more than {BACKTRACKING_LIMIT} characters, too many for the schema's patterns with look-around"
    try:
        data = read_json(text)
    except NotJsonError as error:
        return str(error)
    return compiled.violation_of(data, depth_of(text))


def _schema_text(schema: object) -> str:
    """Return a schema as JSON text, in which numbers keep all their digits. Raises ``ConfigError`` if it has none."""
    if isinstance(schema, str):
        return schema
    if not isinstance(schema, dict | bool):
        raise ConfigError(f"a schema must be a JSON object, true or false, but this is of type {type(schema).__name__}")
    try:
        return json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"the schema is no JSON data: {error}") from error


@lru_cache(_CACHED)
def _compiled(text: str) -> "CompiledSchema":
    if len(text) > SCHEMA_LIMIT:
        raise ConfigError(f"the schema has {len(text)} characters; at most {SCHEMA_LIMIT} are read")
    try:
        data = read_json(text)
    except NotJsonError as error:
        raise ConfigError(f"the schema cannot be read: {error}") from error
    from arbiter.structured.compiled_schema import compile_schema  # its library is needed by few uses of Arbiter

    return compile_schema(text, data)
