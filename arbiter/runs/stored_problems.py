"""The file ``problems.jsonl`` of a run folder: the problems with their choices and rows, as their graders need them.

A run has the file if its grader is another than ``math``, or if its problems have choices or tools. In other runs the
results alone have what grading needs.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.log.checksums import as_line
from arbiter.log.identity import grader_name
from arbiter.protocols.errors import RunError
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.graders import with_rows
from arbiter.runs.record_files import read_records
from arbiter.runs.results import Result

FILE = "problems.jsonl"
_WRITTEN_AGAIN = "restore it from a copy, or repeat the command of the run with the same --out, which writes it again"


def write_problems(folder: Path, config: Config, problems: Sequence[Problem]) -> None:
    """Write the problems into the folder of a run if grading them again needs more than the results have.

    A log without texts has no problems either. Raises ``RunError`` if the file cannot be written.
    """
    problems = with_rows(config, problems)
    needed = grader_name(config, problems) != "math" or any(problem.choices or problem.rules for problem in problems)
    if needed and config.log.record == "full":
        replace_file(folder / FILE, b"".join(as_line(msgspec.json.encode(problem)) for problem in problems))


def read_problems(folder: Path, grader: str) -> dict[str, Problem]:
    """Return the stored problems of a run by their ids; empty if its ``grader`` needs none.

    Raises ``RunError`` if the file is damaged, or missing although the grader needs it.
    """
    if (folder / FILE).is_file():
        return {problem.id: problem for problem in read_records(folder / FILE, Problem)}
    if grader != "math":
        raise RunError(f"{folder / FILE} is missing, and the grader {grader!r} of the run needs it: {_WRITTEN_AGAIN}")
    return {}


def problem_of(result: Result, stored: dict[str, Problem]) -> Problem:
    """Return the problem of a result, as it was stored, or as the result has it if the run stores no problems.

    Raises ``RunError`` if only other problems are stored.
    """
    solution = result.solution
    if not stored:
        return Problem(solution.problem, solution.question, result.reference)
    if solution.problem not in stored:
        raise RunError(f"{FILE} lacks the problem {solution.problem!r}: {_WRITTEN_AGAIN}")
    return stored[solution.problem]
