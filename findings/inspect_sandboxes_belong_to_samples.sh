#!/usr/bin/env bash
# Version: inspect_ai 0.3.285.
#
# Guess: a sandbox is a tool of its own: a program that grades code makes one by its name ("local", "docker"), runs
# commands in it, and closes it. The package exports the environments and the function that returns one.
#
# What happens: sandboxes belong to samples. Outside a sample of a running task the exported function raises, also with
# the name of a sandbox that is always there. Nothing that the package exports starts one for another caller.
#
#   outside a sample: ProcessLookupError
#   exported functions that start one: none
#
# Why it matters: a grader that others call (a benchmark, an endpoint) cannot use the sandboxes that its users have set
# up for inspect_ai. Programs that it must run go into a task of inspect_ai, and the task calls the solver.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet inspect_ai==0.3.285

cd "$folder"
"$folder/env/bin/python" - <<'PYTHON'
import sys

import inspect_ai
import inspect_ai.util as util

print("inspect_ai", inspect_ai.__version__)
raised = None
try:
    util.sandbox("local")
except Exception as error:
    raised = type(error).__name__
print("outside a sample:", raised)
starting = [name for name in util.__all__ if "sandbox" in name.lower() and name.startswith(("start", "open", "create"))]
print("exported functions that start one:", starting or "none")
print("exported names:", [name for name in util.__all__ if "andbox" in name])
sys.exit(raised != "ProcessLookupError" or bool(starting))
PYTHON
