"""What to do with a damaged file of a run that is derived from its log, and the summary, which is one of them."""

from pathlib import Path

from arbiter.log.reader import LOG

SWEEP_REMEDY = (
    "restore it from a copy, or remove it and repeat the command of the sweep with the same thresholds and --out: the "
    "answers in the logs of the points are not requested again"
)
"""What to do if ``sweep.json`` is damaged."""


_IMPORT_AGAIN = "restore it from a copy, or import the rows again into another folder: arbiter collect --import"


def collection_remedy(folder: Path) -> str:
    """Return what to do if ``collection.json`` in ``folder`` is damaged."""
    if not (folder / LOG).is_file():
        return _IMPORT_AGAIN
    return (
        "restore it from a copy, or repeat the command of the collection with the same --out: it writes the file again "
        "and requests no recorded answer again"
    )


def resume_command(folder: Path) -> str:
    """Return the command that resumes the run in ``folder``: a point of a sweep is resumed with its sweep."""
    if (folder.parent / "sweep.json").is_file():
        return f"arbiter sweep --resume {folder.parent}"
    command = "collect" if (folder / "collection.json").is_file() else "bench"
    return f"arbiter {command} --resume {folder}"


def written_again(folder: Path) -> str:
    """Return the remedy for a damaged file that the log of the run in ``folder`` can replace."""
    if (folder / LOG).is_file():
        return f"restore it from a copy, or write it again from the log: {resume_command(folder)}"
    if (folder / "collection.json").is_file():
        return _IMPORT_AGAIN
    return f"restore it from a copy: the folder has no {LOG} from which it could be written again"
