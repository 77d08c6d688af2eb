"""A JSON Schema that is ready for checks, by jsonschema-rs."""

import jsonschema_rs

from arbiter.protocols.errors import ConfigError
from arbiter.structured.json_text import Json

_PATTERN_BYTES = 1024 * 1024
_STEPS = 10_000
_MESSAGE = 300

_Patterns = jsonschema_rs.RegexOptions | jsonschema_rs.FancyRegexOptions


class CompiledSchema:
    """A schema. If ``backtracks``, a pattern of it needs an engine whose time is not linear in the text."""

    def __init__(self, validator: jsonschema_rs.Validator, *, backtracks: bool) -> None:
        self._validator = validator
        self.backtracks = backtracks

    def problem_of(self, data: Json) -> str | None:
        """Return why ``data`` does not fit, and where; None if it fits."""
        try:
            self._validator.validate(data)  # stops at the first error; the list of all can take exponential time
        except jsonschema_rs.ValidationError as error:
            return _short(f"{_at(error)}{error.message}")
        return None


def compile_schema(text: str) -> CompiledSchema:
    """Return the schema of a JSON text. Patterns are matched in linear time, if the schema's patterns allow it.

    Raises ``ConfigError`` if the text has no schema that can be used.
    """
    linear = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES)
    try:
        return CompiledSchema(_validator(text, linear, "the value"), backtracks=False)
    except jsonschema_rs.ValidationError as error:
        if not _is_pattern(error):
            raise _no_schema(text, linear) from error
    bounded = jsonschema_rs.FancyRegexOptions(backtrack_limit=_STEPS, size_limit=_PATTERN_BYTES)
    try:
        return CompiledSchema(_validator(text, bounded, "the value"), backtracks=True)
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
        return ConfigError(_short(f"it is no JSON Schema that can be used: {reason}"))
    raise AssertionError("a schema compiles only without a mask")


def _at(error: jsonschema_rs.ValidationError) -> str:
    """Return the place of an error as a JSON pointer (RFC 6901) and a colon; empty for the whole."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in error.instance_path)
    place = "".join(f"/{part}" for part in parts)
    return f"at {place}: " if place else ""


def _short(text: str) -> str:
    return text if len(text) <= _MESSAGE else f"{text[: _MESSAGE - 1]}…"
