"""Validate JSON texts against JSON schemas."""

from functools import lru_cache

import jsonschema_rs
import msgspec

_REMEMBERED = 1024  # compiled schemas
_LONGEST = 300  # characters of a reason


def problem_of(schema: str, text: str) -> str | None:
    """Return why ``text`` is not JSON that fits the JSON schema ``schema`` (JSON text, too); None if it is.

    Raises ``ValueError`` if ``schema`` is no JSON schema.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        return f"not JSON: {error}"
    found = next(iter(_validator(schema).iter_errors(value)), None)
    if found is None:
        return None
    where = "".join(f"[{part!r}]" for part in found.instance_path)
    message = found.message if len(found.message) <= _LONGEST else f"{found.message[:_LONGEST]}…"
    return f"{where}: {message}" if where else message


@lru_cache(_REMEMBERED)
def _validator(schema: str) -> jsonschema_rs.Validator:
    try:
        return jsonschema_rs.validator_for(msgspec.json.decode(schema))
    except (msgspec.DecodeError, ValueError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(str(error)) from error
