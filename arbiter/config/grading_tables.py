"""The tables that control how answers are graded."""

from typing import Literal

from arbiter.config.base import ConfigTable, Count


class SandboxTable(ConfigTable, frozen=True):
    """The sandbox of the grader ``code``. A program that needs more than its limits is wrong."""

    kind: Literal["bubblewrap", "docker"] = "bubblewrap"
    """What confines programs: ``bubblewrap`` (the package of the system), or ``docker``."""
    image: str = "python:3.11-slim"
    """The image for Docker. It must have ``python3``, in version 3.10 or later, and what the programs import."""
    python: str | None = None
    """The Python that runs the programs in bubblewrap. Not set: the one that runs Arbiter, with its packages."""
    seconds: Count = 10
    """The CPU time of one process, in seconds, for each test."""
    wall_seconds: Count = 60
    """The time after which a program is stopped, in seconds, for each test. It ends programs that wait."""
    memory: Count = 1024
    """The address space of one process, in MiB."""
    processes: Count = 16
    """The number of processes and threads, the program itself included."""
    file_size: Count = 16
    """The size of one file, in MiB. All files together may have four times that size."""
    output: Count = 1
    """The size of standard output and standard error together, in MiB, for each test."""
    workers: Count = 2
    """How many programs run concurrently."""


class GradingJudgeTable(ConfigTable, frozen=True):
    """The language model that grades answers, for the grader ``judge``."""

    model: str = "judge"
    """The table of the model, by its key below ``models.``.

    ``judge`` may be a model for grading alone: other run types than ``judge`` do not call it. Its ``prompt`` is then
    that of a model that writes, such as ``chat``.
    """
    prompt: str | None = None
    """What the model reads: a text that contains ``{question}``, ``{rubric}`` and ``{answer}`` once each.

    Not set: a built-in prompt. The model must end with the line ``GRADE: CORRECT`` or ``GRADE: INCORRECT``. The rubric
    is the field ``rubric`` of the row, else the reference answer.
    """
    max_tokens: Count = 1024
    """The largest number of tokens that the model writes for one answer."""
