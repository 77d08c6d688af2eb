"""The program that runs an answer and its tests in Python, in a process of its own within the sandbox.

It runs as ``python -I -c SOURCE JOB TOKEN PROOF``, with the standard library alone; the arguments are descriptors. JOB
has the program and the tests as JSON. After the last test, the text of TOKEN is copied to PROOF. If a test fails, PROOF
gets the reason.
"""

import json
import os
import sys
import types

_SHOWN = 200


def main() -> None:
    """Run the program and its tests, and write the proof or the reason."""
    job, token, proof = map(int, sys.argv[1:4])
    with os.fdopen(job, "rb") as file:
        work = json.load(file)
    sys.argv[1:] = []
    module = types.ModuleType("answer")
    sys.modules["answer"] = module
    place = "the program"
    try:
        exec(compile(work["program"], "answer.py", "exec"), module.__dict__)  # noqa: S102 - running it is the purpose
        for number, test in enumerate(work["tests"], start=1):
            place = f"assertion {number} of {len(work['tests'])}" if len(work["tests"]) > 1 else "the test"
            exec(compile(test, "tests.py", "exec"), module.__dict__)  # noqa: S102 - running it is the purpose
    except BaseException as error:
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        os.write(proof, f"{place} failed: {said[:_SHOWN]}".encode(errors="replace"))
        os._exit(1)
    os.write(proof, os.read(token, 64))
    os._exit(0)


if __name__ == "__main__":
    main()
