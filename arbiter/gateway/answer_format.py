"""The form that a request demands of the answer: ``response_format`` of a chat, ``text.format`` of a response."""

from typing import Any

import msgspec

from arbiter.gateway.schemas import ChatBody, CommonBody, JsonSchema, ResponseBody, TextFormat
from arbiter.protocols.errors import RequestError

ANY_OBJECT: dict[str, Any] = {"type": "object"}


def schema_of(body: CommonBody) -> dict[str, Any] | None:
    """Return the JSON schema that the answer must fit; None if any text may answer.

    Name and description of the format are those of the schema, if it has none: the models read them there.
    Raises ``RequestError`` naming the field that is missing, or cannot be honoured.
    """
    if isinstance(body, ChatBody) and body.response_format is not None:
        chosen = body.response_format
        if chosen.type == "json_schema" and chosen.json_schema is None:
            raise _missing("response_format.json_schema")
        if chosen.type != "json_schema" and chosen.json_schema is not None:
            raise _misplaced("response_format.json_schema", chosen.type)
        return ANY_OBJECT if chosen.type == "json_object" else chosen.json_schema and _named(chosen.json_schema)
    if isinstance(body, ResponseBody) and body.text is not None:
        return body.text.format and _of_text(body.text.format)
    return None


def schema_field(body: CommonBody) -> str:
    """Return the path of the field with the schema."""
    return "text.format.schema" if isinstance(body, ResponseBody) else "response_format.json_schema.schema"


def _of_text(chosen: TextFormat) -> dict[str, Any] | None:
    given = {"name": chosen.name, "schema": chosen.schema, "description": chosen.description, "strict": chosen.strict}
    if chosen.type != "json_schema":
        for name, value in given.items():
            if value is not None:
                raise _misplaced(f"text.format.{name}", chosen.type)
        return ANY_OBJECT if chosen.type == "json_object" else None
    for name in ("name", "schema"):
        if given[name] is None:
            raise _missing(f"text.format.{name}")
    return _named(msgspec.convert(given, JsonSchema))


def _named(given: JsonSchema) -> dict[str, Any]:
    described = {} if given.description is None else {"description": given.description}
    return {"title": given.name, **described, **given.schema}


def _missing(param: str) -> RequestError:
    return RequestError(f"{param} is missing", code="missing_required_parameter", param=param)


def _misplaced(param: str, kind: str) -> RequestError:
    return RequestError(
        f"{param} is only for the type json_schema, but the type is {kind}", code="invalid_value", param=param
    )
