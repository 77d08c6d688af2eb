"""Read and write ``summary.json`` in the folder of a run."""

from pathlib import Path
from typing import TypeVar

import msgspec

from arbiter.log.checksums import as_document
from arbiter.protocols.model_traits import KVMemory
from arbiter.protocols.records import Author
from arbiter.runs.answer_times import AnswerTimes
from arbiter.runs.baselines import ComparedRun
from arbiter.runs.documents import read_document
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.remedies import written_again
from arbiter.runs.results import Summary

NAME = "summary.json"

Kind = TypeVar("Kind", bound=msgspec.Struct)


class StoredSummary(msgspec.Struct, frozen=True):
    """The keys of a summary of any version that cannot be computed from the results.

    Other keys are ignored. Keys that it lacks have these values. ``decoded`` is the number of results; None if the
    summary does not count them.
    """

    wall_seconds: float | None = None
    interrupted: bool = False
    simulated: bool = False
    kv_memory: dict[str, KVMemory] = msgspec.field(default_factory=dict[str, KVMemory])
    cpu_seconds: float | None = None
    comparison: dict[Author, ComparedRun] | None = None
    decoded: int | None = None
    stopped: str | None = None
    steps_as_text: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    stream_times: AnswerTimes | None = None

    def added_to(self, summary: Summary) -> Summary:
        """Return ``summary``, which was computed from the results alone, with what is known from this one."""
        known = {name: getattr(self, name) for name in self.__struct_fields__ if name != "decoded"}
        return msgspec.structs.replace(summary, **known)


def read_summary(folder: Path, kind: type[Kind]) -> Kind | None:
    """Return the keys of ``kind`` in the summary of the run in ``folder``; None if it has no summary.

    Raises ``RunError`` with the remedy if the summary is damaged or cannot be read.
    """
    return read_document(folder / NAME, kind, written_again(folder))


def write_summary(folder: Path, summary: Summary) -> None:
    """Write the summary of the run in ``folder``. Raises ``RunError`` if it cannot be written."""
    replace_file(folder / NAME, as_document(msgspec.json.encode(summary)))
