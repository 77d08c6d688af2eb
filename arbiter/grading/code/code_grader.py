"""Grade programs: run the program of an answer against the tests of its row, in a sandbox."""

import re
from collections.abc import Collection

from arbiter.grading.code.code_tests import NoTestsError, needed_names, program_of, read_tests
from arbiter.grading.code.sandboxes import Sandbox, SandboxError
from arbiter.grading.grader import LONGEST, NO_END, Grade, GradingRequest

_FENCED = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[^\n`]*)\n(?P<code>.*?)(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_PYTHON = ("python", "py", "python3")
_DEFINED = re.compile(r"^(?:async[ \t]+)?(?:def|class)[ \t]+(?P<name>\w+)", re.MULTILINE)


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
        code, found_by = code_of(request.conclusion, needed_names(request.row, tests))
        if not code.strip():
            return Grade(right=False, reason="there is no program: the text is empty")
        try:
            verdict = await self._sandbox.judge(program_of(code, request.row), tests)
        except SandboxError as error:
            return Grade(right=None, answer=code[:LONGEST], reason=str(error), found_by=found_by)
        return Grade(verdict.right, code[:LONGEST], verdict.reason, found_by)


def code_of(text: str, names: Collection[str] = ()) -> tuple[str, str]:
    """Return the program in a text, and how it was found: a fenced block, or the whole text.

    Blocks of Python come before those without a language, and these before others. Of such blocks it is the last one
    that defines one of ``names``, else the last.
    """
    blocks = [((match["language"].lower().split() or [""])[0], match["code"]) for match in _FENCED.finditer(text)]
    if not blocks:
        return text, "whole text"
    python = [code for language, code in blocks if language in _PYTHON]
    codes = python or [code for language, code in blocks if not language] or [code for _, code in blocks]
    defining = [code for code in codes if any(found["name"] in names for found in _DEFINED.finditer(code))]
    return (defining or codes)[-1], "code block"
