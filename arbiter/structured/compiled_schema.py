"""A JSON Schema that is ready for checks, by jsonschema-rs."""

import jsonschema_rs

from arbiter.protocols.errors import ConfigError
from arbiter.structured.json_text import Json
from arbiter.structured.schema_size import LONGEST_CHAIN, SchemaSize

MOST_PARTS = 1_000_000
"""How many parts a schema may have if each reference is replaced by what it refers to."""

_EXPLAINED_PARTS, _EXPLAINED_DEPTH = 10_000, 5  # finding the first error takes a thousand times as long as deciding
_PATTERN_BYTES = 1024 * 1024
_STEPS = 10_000
_MESSAGE = 300

_Patterns = jsonschema_rs.RegexOptions | jsonschema_rs.FancyRegexOptions


class CompiledSchema:
    """A schema. If ``backtracks``, a pattern of it needs an engine whose time is not linear in the text."""

    def __init__(self, validator: jsonschema_rs.Validator, size: SchemaSize, *, backtracks: bool) -> None:
        self._validator = validator
        self._size = size
        self.backtracks = backtracks

    def violation_of(self, data: Json, depth: int) -> str | None:
        """Return why ``data`` does not fit, and where; None if it fits. ``depth`` is how deep its parts are nested.

        The reason names no place where finding it could take long: the schema multiplies its parts, or is recursive.
        """
        if self._validator.is_valid(data):
            return None
        if self._size.parts > _EXPLAINED_PARTS or (self._size.is_recursive and depth > _EXPLAINED_DEPTH):
            return "it does not fit the schema"
        try:
            self._validator.validate(data)  # stops at the first error; the list of all can take exponential time
        except jsonschema_rs.ValidationError as error:
            return _short(f"{_at(error)}{error.message}")
        return None


def compile_schema(text: str, data: Json) -> CompiledSchema:
    """Return the schema of a JSON text, and its ``data``. Patterns are matched in linear time, if they allow it.

    Raises ``ConfigError`` if the text has no schema that can be used.
    """
    size = SchemaSize(data)
    if size.is_too_long or size.parts > MOST_PARTS:
        raise ConfigError(f"the schema has more than {MOST_PARTS} parts or {LONGEST_CHAIN} levels of nesting")
    linear = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES)
    try:
        return CompiledSchema(_validator(text, linear, "the value"), size, backtracks=False)
    except jsonschema_rs.ValidationError as error:
        if not _is_pattern(error):
            raise _no_schema(text, linear) from error
    bounded = jsonschema_rs.FancyRegexOptions(backtrack_limit=_STEPS, size_limit=_PATTERN_BYTES)
    try:
        return CompiledSchema(_validator(text, bounded, "the value"), size, backtracks=True)
    except jsonschema_rs.ValidationError as error:
        raise _no_schema(text, bounded) from error


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
        return ConfigError(_short(f"it is not a usable JSON Schema: {reason}"))
    raise AssertionError("a schema compiles only without a mask")


def _at(error: jsonschema_rs.ValidationError) -> str:
    """Return the place of an error as a JSON pointer (RFC 6901) and a colon; empty for the whole."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in error.instance_path)
    place = "".join(f"/{part}" for part in parts)
    return f"at {place}: " if place else ""


def _short(text: str) -> str:
    return text if len(text) <= _MESSAGE else f"{text[: _MESSAGE - 1]}…"
