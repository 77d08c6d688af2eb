"""Whether a text is JSON that fits a JSON Schema, decided exactly, also for schemas and texts of strangers.

Drafts 4 to 2020-12 are read; a schema without ``$schema`` is of draft 2020-12. Numbers are compared by value, whatever
their size and their number of digits. ``format`` is checked for the formats of the standard. Nothing is ever fetched: a
``$ref`` leads to a place in the schema itself.
"""

import json
from functools import lru_cache

import jsonschema_rs

from arbiter.protocols.errors import ConfigError
from arbiter.structured.json_text import NotJsonError, read_json

SCHEMA_LIMIT = 512 * 1024
"""How many characters a schema may have as JSON."""
BACKTRACKING_LIMIT = 4096
"""How many characters a text may have if a pattern of its schema has a look-around or a back reference."""

_CACHED = 64
_PATTERN_BYTES = 1024 * 1024
_STEPS = 10_000
_MESSAGE = 300


class _Compiled:
    """A schema that is ready for checks. ``backtracks``: a pattern needs an engine whose time is not linear."""

    def __init__(self, validator: jsonschema_rs.Validator, *, backtracks: bool) -> None:
        self.validator = validator
        self.backtracks = backtracks


def checked_schema(schema: object) -> None:
    """Return if ``schema`` is a JSON Schema that texts can be checked against: a dictionary, a bool, or its JSON text.

    Raises ``ConfigError`` with the reason, and with the place in the schema, if it is not.
    """
    _compiled(_schema_text(schema))


def problem_of(schema: object, text: str) -> str | None:
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
    try:
        compiled.validator.validate(data)  # stops at the first error; the list of all can take exponential time
    except jsonschema_rs.ValidationError as error:
        return _short(f"{_at(error)}{error.message}")
    return None


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
def _compiled(text: str) -> _Compiled:
    """Return the compiled schema. Patterns are matched in linear time, if the schema's patterns allow it."""
    if len(text) > SCHEMA_LIMIT:
        raise ConfigError(f"the schema has {len(text)} characters; at most {SCHEMA_LIMIT} are read")
    try:
        read_json(text)
    except NotJsonError as error:
        raise ConfigError(f"the schema cannot be read: {error}") from error
    linear = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES)
    try:
        return _Compiled(_validator(text, linear, "the value"), backtracks=False)
    except jsonschema_rs.ValidationError as error:
        if not _is_pattern(error):
            raise _no_schema(text, linear) from error
    bounded = jsonschema_rs.FancyRegexOptions(backtrack_limit=_STEPS, size_limit=_PATTERN_BYTES)
    try:
        return _Compiled(_validator(text, bounded, "the value"), backtracks=True)
    except jsonschema_rs.ValidationError as error:
        raise _no_schema(text, bounded) from error


_Patterns = jsonschema_rs.RegexOptions | jsonschema_rs.FancyRegexOptions


def _validator(text: str, patterns: _Patterns, mask: str | None) -> jsonschema_rs.Validator:
    """Compile a schema. ``mask`` stands for values in the reasons that it gives; None quotes the values."""
    return jsonschema_rs.validator_for(text, offline=True, validate_formats=True, mask=mask, pattern_options=patterns)


def _is_pattern(error: jsonschema_rs.ValidationError) -> bool:
    return isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Format) and error.kind.format == "regex"


def _no_schema(text: str, patterns: _Patterns) -> ConfigError:
    """Return the error for a schema that cannot be compiled. Its text quotes the wrong value."""
    try:
        _validator(text, patterns, None)
    except jsonschema_rs.ValidationError as error:
        reason = f"{_at(error)}{error.message}"
        if _is_pattern(error):
            reason = f"{_at(error)}no pattern that can be compiled within {_PATTERN_BYTES} bytes"
        return ConfigError(_short(f"it is no JSON Schema that can be used: {reason}"))
    raise AssertionError("a schema compiles only without a mask")


def _at(error: jsonschema_rs.ValidationError) -> str:
    """Return the place of an error as a JSON pointer (RFC 6901) and a colon; empty for the whole."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in error.instance_path)
    place = "".join(f"/{part}" for part in parts)
    return f"at {place}: " if place else ""


def _short(text: str) -> str:
    return text if len(text) <= _MESSAGE else f"{text[: _MESSAGE - 1]}…"
