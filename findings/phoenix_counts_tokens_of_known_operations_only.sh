#!/usr/bin/env bash
# Version: arize-phoenix 20.26.1, opentelemetry-sdk 1.45.2 (OTLP over HTTP).
#
# Guess: spans with gen_ai.usage.input_tokens and .output_tokens count in the totals of their project. The GenAI
# conventions of OpenTelemetry allow custom values of gen_ai.operation.name, for operations that they do not name.
#
# What happens: a span with a custom operation has its tokens among its attributes, and the totals leave them out. So do
# they for operations that the conventions name and Phoenix does not know, such as invoke_workflow. A span without any
# operation is counted: Phoenix then takes the model's name as the sign of a language model. Naming what a request does
# loses its tokens, and saying nothing keeps them.
#
#   text_completion 12, custom 0, invoke_workflow 0, no operation 12
#
# Why it matters: rerankers, reward models and judges are custom operations. Their tokens, and with them their costs,
# are missing from every total, and nothing says so.
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; wait; rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet arize-phoenix==20.26.1 opentelemetry-sdk==1.45.2 \
  opentelemetry-exporter-otlp-proto-http==1.45.2
ports=$(python3 -c "
import socket
both = [socket.create_server(('127.0.0.1', 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in both))")
read -r port grpc <<< "$ports"
PHOENIX_WORKING_DIR=$folder PHOENIX_HOST=127.0.0.1 PHOENIX_PORT=$port PHOENIX_GRPC_PORT=$grpc \
  PHOENIX_TELEMETRY_ENABLED=false PHOENIX_ALLOW_EXTERNAL_RESOURCES=false PHOENIX_DISABLE_AGENT_ASSISTANT=true \
  "$folder/env/bin/phoenix" serve > "$folder/log" 2>&1 &
server=$!

PORT=$port "$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import json
import os
import sys
import time
import urllib.error
import urllib.request

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

url = f"http://127.0.0.1:{os.environ['PORT']}"
for _ in range(900):
    try:
        urllib.request.urlopen(f"{url}/healthz").close()
        break
    except OSError:
        time.sleep(1)

operations = {"known": "text_completion", "custom": "score", "workflow": "invoke_workflow", "none": None}
for project, operation in operations.items():
    provider = TracerProvider(resource=Resource.create({"openinference.project.name": project}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces", timeout=300)))
    with provider.get_tracer("finding").start_as_current_span("request") as span:
        span.set_attribute("gen_ai.request.model", "a-model")
        span.set_attribute("gen_ai.usage.input_tokens", 7)
        span.set_attribute("gen_ai.usage.output_tokens", 5)
        if operation is not None:
            span.set_attribute("gen_ai.operation.name", operation)
    provider.shutdown()


def asked(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def shown(project):
    """The tokens that the span has, and those that the project counts."""
    for _ in range(300):
        try:
            spans = asked(f"/v1/projects/{project}/spans")["data"]
        except urllib.error.HTTPError:  # the project is not there yet
            spans = []
        if spans:
            break
        time.sleep(1)
    query = '{ getProjectByName(name: "%s") { tokenCountTotal } }' % project
    total = asked("/graphql", {"query": query})["data"]["getProjectByName"]["tokenCountTotal"]
    [span] = spans
    return span["attributes"]["gen_ai.usage.input_tokens"] + span["attributes"]["gen_ai.usage.output_tokens"], int(total)


print("arize-phoenix", importlib.metadata.version("arize-phoenix"))
print("expected: each project counts the 12 tokens of its span")
found = {project: shown(project) for project in operations}
for project, (span, total) in found.items():
    print(f"{project} ({operations[project]}): the span has {span}, the project counts {total}")
sys.exit(0 if found == {"known": (12, 12), "custom": (12, 0), "workflow": (12, 0), "none": (12, 12)} else 1)
PYTHON
