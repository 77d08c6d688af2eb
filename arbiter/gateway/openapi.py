"""The endpoint's OpenAPI document, generated from the structs that it reads and writes."""

from functools import cache
from typing import Any

import msgspec

from arbiter.gateway.body_decoding import NESTED, empty_values, refused_fields
from arbiter.gateway.chat import ChatChunk, ChatCompletion
from arbiter.gateway.completions import Completion
from arbiter.gateway.error_responses import ErrorShape
from arbiter.gateway.response_bodies import Response, ResponseEvent
from arbiter.gateway.schemas import ChatBody, ChatMessage, CompletionBody, ContentPart, InputItem, ResponseBody

Json = dict[str, Any]

_BODIES = (ChatBody, CompletionBody, ResponseBody)
_LOOSE: tuple[type[Any], ...] = (
    ChatMessage,
    InputItem,
    ContentPart,
)  # the further fields of an earlier answer are not read
_NOTHING: Json = {"enum": empty_values("unknown")}
_TEMPLATE = "#/components/schemas/{name}"
_REFUSALS = {
    400: "A field of the request is not valid, or cannot be honoured.",
    401: "The key is missing or not valid.",
    404: "The model does not exist.",
    408: "The request body did not arrive in time.",
    413: "The request body is too large.",
    415: "The content type is not application/json.",
    421: "The request is for a host that this endpoint, which has no keys, does not answer for.",
    429: "The endpoint is at capacity, or the key has reached a spend cap. The header `retry-after` gives the seconds "
    "after which to try again.",
    502: "A model failed.",
    503: "The server is shutting down.",
}


@cache
def document(version: str) -> Json:
    """Return the OpenAPI 3.1 document of the endpoint; ``version`` is Arbiter's version."""
    models = (*_BODIES, ChatCompletion, ChatChunk, Completion, Response, ResponseEvent, ErrorShape)
    _, schemas = msgspec.json.schema_components(models, ref_template=_TEMPLATE)
    objects = {*NESTED.values()} - {*_LOOSE}
    for kind in (*_BODIES, *objects):
        properties = schemas[kind.__name__]["properties"]
        for name, neutral in refused_fields(kind).items():
            properties[name] = {
                "enum": [*empty_values(name), *neutral],
                "description": "Not supported: only values without an effect are accepted.",
            }
        schemas[kind.__name__]["additionalProperties"] = _NOTHING
    for kind in _LOOSE:
        del schemas[kind.__name__]["additionalProperties"]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Arbiter",
            "version": version,
            "description": "Step-level speculative reasoning with an OpenAI-compatible interface.",
            "license": {"name": "Apache-2.0"},
        },
        "paths": {
            "/v1/chat/completions": _post("chatCompletions", ChatBody, ChatCompletion, ChatChunk),
            "/v1/completions": _post("completions", CompletionBody, Completion, Completion),
            "/v1/responses": _post("responses", ResponseBody, Response, ResponseEvent),
            "/v1/models": _get("listModels", "The available operating points.", {"application/json": {}}),
            "/v1/models/{id}": _one_model(),
            "/health": _get("health", "The process responds.", {"application/json": {}}, key=False),
            "/ready": _ready(),
            "/live": _get("live", "The data of the live page.", {"application/json": {}}),
            "/metrics": _get("metrics", "Metrics in Prometheus' text format.", {"text/plain": {}}),
            "/openapi.json": _get("openapi", "This document.", {"application/json": {}}, key=False),
            "/": _get("page", "The live page: problems, models and totals.", {"text/html": {}}, key=False),
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _ref(kind: type[msgspec.Struct]) -> Json:
    return {"schema": {"$ref": _TEMPLATE.format(name=kind.__name__)}}


def _error(description: str) -> Json:
    return {"description": description, "content": {"application/json": _ref(ErrorShape)}}


def _post(name: str, body: type[msgspec.Struct], whole: type[msgspec.Struct], part: type[msgspec.Struct]) -> Json:
    done = "" if part is ResponseEvent else ", then a last event `[DONE]`"
    description = f"The answer. With `stream`, server-sent events with one {part.__name__} each{done}."
    content = {"application/json": _ref(whole), "text/event-stream": {"schema": {"type": "string"}}}
    return {
        "post": {
            "operationId": name,
            "requestBody": {"required": True, "content": {"application/json": _ref(body)}},
            "responses": {
                "200": {"description": description, "content": content},
                **{str(status): _error(why) for status, why in _REFUSALS.items()},
            },
        }
    }


def _get(name: str, description: str, content: Json, *, key: bool = True) -> Json:
    refused = {str(status): _error(_REFUSALS[status]) for status in ((401, 421) if key else (421,))}
    answered = {"200": {"description": description, "content": content}}
    return {"get": {"operationId": name, "responses": {**answered, **refused}}}


def _one_model() -> Json:
    path = _get("getModel", "The operating point.", {"application/json": {}})
    path["get"]["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    path["get"]["responses"]["404"] = _error(_REFUSALS[404])
    return path


def _ready() -> Json:
    path = _get("ready", "The endpoint accepts requests.", {"application/json": {}}, key=False)
    path["get"]["responses"]["503"] = {
        "description": "The endpoint is shutting down.",
        "content": {"application/json": {}},
    }
    return path
