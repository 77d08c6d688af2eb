"""Grade programs: run an answer against the tests of its row, in a sandbox.

1. ``code_tests`` reads the tests of a row, in the forms of the usual releases.
2. ``code_grader`` takes the program out of the answer and gives both to the sandbox.
3. ``sandboxes`` starts the sandbox: bubblewrap, Docker, or none if the configuration allows that.
4. ``sandbox_supervisor`` runs in the sandbox. It starts the program with its limits, once per test, and judges it.
5. ``sandboxed_tests`` runs in the program's process if the tests are Python.
"""
