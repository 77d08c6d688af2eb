"""Grade programs: run the program of an answer against the tests of its row, in a sandbox."""

import re

from arbiter.grading.code.code_tests import NoTestsError, program_of, read_tests
from arbiter.grading.code.sandboxes import Sandbox, SandboxError
from arbiter.grading.grader import LONGEST, NO_END, Grade, GradingRequest

_FENCED = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[^\n`]*)\n(?P<code>.*?)(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_PYTHON = ("", "python", "py", "python3")


class CodeGrader:
    """Grades programs by the tests of their row (``docs/reference/code-grader.md``). They run in ``sandbox``."""

    name = "code"
    version = 1

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def grade(self, request: GradingRequest) -> Grade:
        """Grade the program of a text. Without tests, or if the sandbox fails, it is ungraded."""
        try:
            tests = read_tests(request.row)
        except NoTestsError as error:
            return Grade(right=None, reason=str(error))
        if request.conclusion is None:
            return Grade(right=False, reason=NO_END)
        code, found_by = code_of(request.conclusion)
        if not code.strip():
            return Grade(right=False, reason="there is no program: the text is empty")
        try:
            verdict = await self._sandbox.judge(program_of(code, request.row), tests)
        except SandboxError as error:
            return Grade(right=None, answer=code[:LONGEST], reason=str(error), found_by=found_by)
        return Grade(verdict.right, code[:LONGEST], verdict.reason, found_by)


def code_of(text: str) -> tuple[str, str]:
    """Return the program in a text, and how it was found: the last fenced block of Python, or the whole text."""
    blocks = [(match["language"].strip().lower(), match["code"]) for match in _FENCED.finditer(text)]
    python = [code for language, code in blocks if language in _PYTHON] or [code for _, code in blocks]
    return (python[-1], "code block") if python else (text, "whole text")
