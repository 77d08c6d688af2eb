"""Phoenix and MLflow: how each is started, receives spans, and says what it has of them."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx2
import msgspec

from tests.servers.starting import Launch, free_ports

ROOT = Path(__file__).parents[2]
_QUERY = """query ($name: String!, $condition: String!) { getProjectByName(name: $name) {
  id tokenCountTotal(filterCondition: $condition) } }"""


class ShownSpan(msgspec.Struct, frozen=True):
    """A span as a viewer has it. ``parent`` is empty for a root, ``kind`` is what the viewer takes the span for."""

    id: str
    parent: str
    name: str
    kind: str
    attributes: Mapping[str, Any]


class Viewer(Protocol):
    """A program that receives spans at ``url``, and keeps those of a ``project`` together."""

    url: str

    def launch(self, python: Path, folder: Path, port: int) -> Launch: ...
    def environment(self, project: str) -> Mapping[str, str]:
        """Return the variables with which ``arbiter`` sends spans to ``project``, which is made if it is missing."""
        ...

    def spans(self, project: str) -> list[ShownSpan]: ...
    def tokens(self, project: str, model: str) -> int:
        """Return the tokens that the viewer counts for a model."""
        ...

    def total(self, project: str) -> int:
        """Return the tokens that the viewer counts for all traces."""
        ...

    def page(self, project: str) -> str:
        """Return the address of the page that lists the traces."""
        ...

    def listing(self, roots: Sequence[str]) -> str:
        """Return a text that the page has when it lists the traces whose roots have these names."""
        ...


class Phoenix:
    """Arize Phoenix: GraphQL for totals, REST for spans."""

    url = ""

    def launch(self, python: Path, folder: Path, port: int) -> Launch:
        self.url = f"http://127.0.0.1:{port}"
        variables = {
            "PHOENIX_WORKING_DIR": str(folder),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(free_ports(1)[0]),
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
            "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        }
        return Launch("phoenix", [str(python.parent / "phoenix"), "serve"], variables, port, "/healthz", folder / "log")

    def environment(self, project: str) -> Mapping[str, str]:
        return {"OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={project}"}

    def spans(self, project: str) -> list[ShownSpan]:
        return list(self._spans(project))

    def tokens(self, project: str, model: str) -> int:
        return self._counted(project, f"llm.model_name == '{model}'")

    def total(self, project: str) -> int:
        return self._counted(project, "")

    def page(self, project: str) -> str:
        return f"{self.url}/projects/{self._project(project, '')['id']}"

    def listing(self, roots: Sequence[str]) -> str:
        return roots[0]

    def _counted(self, project: str, condition: str) -> int:
        return int(self._project(project, condition)["tokenCountTotal"])

    def _project(self, project: str, condition: str) -> Any:
        variables = {"name": project, "condition": condition}
        return fetch(f"{self.url}/graphql", {"query": _QUERY, "variables": variables})["data"]["getProjectByName"]

    def _spans(self, project: str) -> Iterator[ShownSpan]:
        cursor = ""
        while True:
            page = fetch(f"{self.url}/v1/projects/{quote(project)}/spans?limit=500{cursor}")
            for span in page["data"]:
                context, parent = span["context"], span["parent_id"] or ""
                yield ShownSpan(context["span_id"], parent, span["name"], span["span_kind"], span["attributes"])
            if not page["next_cursor"]:
                return
            cursor = f"&cursor={quote(page['next_cursor'])}"


class MlFlow:
    """MLflow: REST for traces and their spans. A project is an experiment."""

    url = ""

    def __init__(self) -> None:
        self._experiments: dict[str, str] = {}

    def launch(self, python: Path, folder: Path, port: int) -> Launch:
        self.url = f"http://127.0.0.1:{port}"
        stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files"]
        listening = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        command = [str(python.parent / "mlflow"), "server", *listening, *stores]
        return Launch("mlflow", command, variables, port, "/health", folder / "log")

    def environment(self, project: str) -> Mapping[str, str]:
        return {"OTEL_EXPORTER_OTLP_HEADERS": f"x-mlflow-experiment-id={self._experiment(project)}"}

    def spans(self, project: str) -> list[ShownSpan]:
        return list(self._spans(project))

    def tokens(self, project: str, model: str) -> int:
        used = [span.attributes for span in self._spans(project) if span.attributes.get("mlflow.llm.model") == model]
        return sum(one["mlflow.chat.tokenUsage"]["total_tokens"] for one in used)

    def total(self, project: str) -> int:
        usages = [trace["trace_metadata"].get("mlflow.trace.tokenUsage", "{}") for trace in self._traces(project)]
        return sum(json.loads(usage).get("total_tokens", 0) for usage in usages)

    def page(self, project: str) -> str:
        return f"{self.url}/#/experiments/{self._experiment(project)}/traces"

    def listing(self, roots: Sequence[str]) -> str:
        return f"{len(roots)} of {len(roots)}"

    def _experiment(self, project: str) -> str:
        if project not in self._experiments:
            made = fetch(f"{self.url}/api/2.0/mlflow/experiments/create", {"name": project})
            self._experiments[project] = made["experiment_id"]
        return self._experiments[project]

    def _traces(self, project: str) -> list[Any]:
        where = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": self._experiment(project)}}
        found = fetch(f"{self.url}/api/3.0/mlflow/traces/search", {"locations": [where], "max_results": 500})
        return found.get("traces", [])

    def _spans(self, project: str) -> Iterator[ShownSpan]:
        for trace in self._traces(project):
            found = fetch(f"{self.url}/api/3.0/mlflow/traces/get?trace_id={trace['trace_id']}")["trace"]
            for span in found["spans"]:
                attributes = {pair["key"]: _value(pair["value"]) for pair in span["attributes"]}
                kind = str(attributes.get("mlflow.spanType", ""))
                yield ShownSpan(span["span_id"], span.get("parent_span_id", ""), span["name"], kind, attributes)


def interpreter(name: str) -> Path | None:
    """Return the interpreter of a program's environment (``just watch-env``); None if it is not installed."""
    given = os.environ.get(f"ARBITER_{name.upper()}_PYTHON")
    found = Path(given) if given else ROOT / f".watch/{name}/bin/python"
    return found if found.is_file() else None


def fetch(url: str, body: object = None) -> Any:
    """Return the JSON answer to a request; ``body`` is sent as JSON."""
    answer = httpx2.get(url, timeout=300) if body is None else httpx2.post(url, json=body, timeout=300)
    answer.raise_for_status()
    return answer.json()


def _value(value: Mapping[str, Any]) -> Any:
    """Return the value of an attribute, of which MLflow says the type."""
    [(kind, one)] = value.items()
    if kind == "array_value":
        return [_value(item) for item in one.get("values", [])]
    if kind == "kvlist_value":
        return {pair["key"]: _value(pair["value"]) for pair in one.get("values", [])}
    return one
