"""JSON schemas of answers, as callers give them."""

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from arbiter.protocols.errors import ConfigError
from arbiter.structured.validation import checked_schema

Schema = Mapping[str, Any] | str
"""A JSON schema that is an object, as data or as JSON text."""


def schema_text(schema: object, name: str = "schema") -> str:
    """Return a schema as JSON text. Raises ``ConfigError``, which begins with ``name``, if it is none."""
    if isinstance(schema, str):
        text = schema
    elif isinstance(schema, Mapping):
        text = _encoded(cast("Mapping[str, Any]", schema), name)
    else:
        kind = type(schema).__name__
        if isinstance(schema, type):
            kind = "a class. Use msgspec.json.schema(…), or model_json_schema() of pydantic"
        raise ConfigError(f"{name} must be a JSON schema, as a dictionary or as JSON text, not {kind}")
    try:
        text.encode()
        checked_schema(text)
    except UnicodeEncodeError as error:
        raise ConfigError(f"{name}: not valid Unicode: {error.reason}") from error
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    return text


def _encoded(schema: Mapping[str, Any], name: str) -> str:
    try:
        return msgspec.json.encode(dict(schema)).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: the schema is no JSON: {error}") from error
