"""The endpoint's own description, made of the structs that it reads and writes."""

from functools import cache
from typing import Any

import msgspec

from arbiter.gateway.chat import ChatChunk, ChatCompletion
from arbiter.gateway.completions import Completion
from arbiter.gateway.error_responses import ErrorShape
from arbiter.gateway.responses import Response, ResponseEvent
from arbiter.gateway.schemas import ChatBody, CompletionBody, ResponseBody, refused_fields

Json = dict[str, Any]

_BODIES = (ChatBody, CompletionBody, ResponseBody)
_TEMPLATE = "#/components/schemas/{name}"
_REFUSALS = {
    400: "Something in the request is wrong, or cannot be honoured.",
    401: "The key is missing or wrong.",
    404: "There is no such model.",
    408: "The body did not come.",
    413: "The body is too large.",
    415: "The content type is not application/json.",
    429: "All places are taken; `retry-after` says when to come again.",
    502: "A model failed.",
    503: "The server is shutting down.",
}


@cache
def document(version: str) -> Json:
    """An OpenAPI 3.1 document."""
    models = (*_BODIES, ChatCompletion, ChatChunk, Completion, Response, ResponseEvent, ErrorShape)
    _, schemas = msgspec.json.schema_components(models, ref_template=_TEMPLATE)
    for body in _BODIES:
        properties = schemas[body.__name__]["properties"]
        for name, neutral in refused_fields(body).items():
            properties[name] = {"enum": [None, *neutral], "description": "Cannot be honoured: may ask for nothing."}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Arbiter",
            "version": version,
            "description": "Step-level speculative reasoning behind OpenAI's interface.",
            "license": {"name": "Apache-2.0"},
        },
        "paths": {
            "/v1/chat/completions": _post("chatCompletions", ChatBody, ChatCompletion, ChatChunk),
            "/v1/completions": _post("completions", CompletionBody, Completion, Completion),
            "/v1/responses": _post("responses", ResponseBody, Response, ResponseEvent),
            "/v1/models": _get("listModels", "The operating points.", {"application/json": {}}),
            "/v1/models/{id}": _one_model(),
            "/health": _get("health", "Whether the process answers.", {"application/json": {}}, key=False),
            "/ready": _ready(),
            "/live": _get("live", "What the page shows.", {"application/json": {}}),
            "/metrics": _get("metrics", "For Prometheus.", {"text/plain": {}}),
            "/openapi.json": _get("openapi", "This document.", {"application/json": {}}, key=False),
            "/": _get("page", "A page that shows live problems.", {"text/html": {}}, key=False),
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _ref(kind: type[msgspec.Struct]) -> Json:
    return {"schema": {"$ref": _TEMPLATE.format(name=kind.__name__)}}


def _error(told: str) -> Json:
    return {"description": told, "content": {"application/json": _ref(ErrorShape)}}


def _post(name: str, body: type[msgspec.Struct], whole: type[msgspec.Struct], part: type[msgspec.Struct]) -> Json:
    told = f"The answer; with `stream`, events whose data are {part.__name__}, and a last one that is `[DONE]`."
    answered = {"application/json": _ref(whole), "text/event-stream": {"schema": {"type": "string"}}}
    return {
        "post": {
            "operationId": name,
            "requestBody": {"required": True, "content": {"application/json": _ref(body)}},
            "responses": {
                "200": {"description": told, "content": answered},
                **{str(status): _error(why) for status, why in _REFUSALS.items()},
            },
        }
    }


def _get(name: str, told: str, content: Json, *, key: bool = True) -> Json:
    refused = {"401": _error(_REFUSALS[401])} if key else {}
    return {"get": {"operationId": name, "responses": {"200": {"description": told, "content": content}, **refused}}}


def _one_model() -> Json:
    made = _get("getModel", "The operating point.", {"application/json": {}})
    made["get"]["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    made["get"]["responses"]["404"] = _error(_REFUSALS[404])
    return made


def _ready() -> Json:
    made = _get("ready", "Problems are taken.", {"application/json": {}}, key=False)
    made["get"]["responses"]["503"] = {"description": "It is shutting down.", "content": {"application/json": {}}}
    return made
