#!/usr/bin/env bash
# Version: mlflow 3.17.2, opentelemetry-sdk 1.45.2 (OTLP over HTTP).
#
# Guess: the total tokens of a trace are its input tokens plus its output tokens.
#
# What happens: they are not, if the trace has a span with input tokens only, as the GenAI conventions of OpenTelemetry
# want it for embeddings. The span adds to the input tokens of the trace, and not to its total. A span gets a total only
# if it has both counts. A value of 0 output tokens, which the conventions do not have for embeddings, repairs it.
#
#   {'input_tokens': 107, 'output_tokens': 5, 'total_tokens': 12}
#
# Why it matters: the list of traces and the charts show the total. A trace of retrieval, whose embeddings read most of
# its tokens, shows a fraction of what it used.
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; wait; rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet mlflow==3.17.2 opentelemetry-sdk==1.45.2 \
  opentelemetry-exporter-otlp-proto-http==1.45.2
port=$(python3 -c "
import socket
with socket.create_server(('127.0.0.1', 0)) as one: print(one.getsockname()[1])")
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true "$folder/env/bin/mlflow" server \
  --host 127.0.0.1 --port "$port" --workers 1 --backend-store-uri "sqlite:///$folder/mlflow.db" \
  --artifacts-destination "$folder/files" > "$folder/log" 2>&1 &
server=$!

PORT=$port "$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import json
import os
import sys
import time
import urllib.request

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

url = f"http://127.0.0.1:{os.environ['PORT']}"
for _ in range(900):
    try:
        urllib.request.urlopen(f"{url}/health").close()
        break
    except OSError:
        time.sleep(1)

headers = {"x-mlflow-experiment-id": "0"}
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces", headers=headers, timeout=300)))
tracer = provider.get_tracer("finding")
with tracer.start_as_current_span("retrieval"):
    with tracer.start_as_current_span("embeddings") as span:
        span.set_attribute("gen_ai.operation.name", "embeddings")
        span.set_attribute("gen_ai.usage.input_tokens", 100)
    with tracer.start_as_current_span("chat") as span:
        span.set_attribute("gen_ai.operation.name", "chat")
        span.set_attribute("gen_ai.usage.input_tokens", 7)
        span.set_attribute("gen_ai.usage.output_tokens", 5)
provider.shutdown()

where = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
body = json.dumps({"locations": [where], "max_results": 5}).encode()
request = urllib.request.Request(
    f"{url}/api/3.0/mlflow/traces/search", body, {"content-type": "application/json"}
)
with urllib.request.urlopen(request) as answer:
    [trace] = json.load(answer)["traces"]
usage = json.loads(trace["trace_metadata"]["mlflow.trace.tokenUsage"])
print("mlflow", importlib.metadata.version("mlflow"))
print("expected: total_tokens 112, which is input_tokens plus output_tokens")
print("seen:", usage)
sys.exit(0 if usage == {"input_tokens": 107, "output_tokens": 5, "total_tokens": 12} else 1)
PYTHON
