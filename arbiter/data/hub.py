"""Load data sets of the Hugging Face hub (the extra ``hub``), and folders with the same layout.

The files of a data set are downloaded as they are and read by ``arbiter.data.file_rows``, so that texts stay texts.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec

from arbiter.data.file_rows import DataRow, file_rows
from arbiter.data.layout import DATA, README, Splits, layout_of, missing_shard
from arbiter.protocols.errors import DataError, not_installed

_SECONDS = 5.0
_NAME = re.compile(
    r"(?P<name>\w[\w.-]*/\w[\w.-]*)(?::(?P<first>[\w.-]+))?(?::(?P<second>[\w.-]+))?",
)
_USE_A_FILE = "or give --data the path of a file"


class HubData(msgspec.Struct, frozen=True):
    """A data set by its name on the hub. Without ``split``, the split ``test`` is taken, else the only one."""

    name: str
    subset: str | None = None
    split: str | None = None


class Repository(Protocol):
    """The files of a data set."""

    def files(self) -> Sequence[str]:
        """Return the paths of all files, relative to the data set."""
        ...

    def fetch(self, paths: Sequence[str]) -> Path:
        """Return a folder that has those of the files ``paths`` that exist."""
        ...


class Folder:
    """A data set in a folder of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def files(self) -> Sequence[str]:
        """Return the paths of all files below the folder."""
        return [str(file.relative_to(self._path).as_posix()) for file in self._path.rglob("*") if file.is_file()]

    def fetch(self, paths: Sequence[str]) -> Path:
        """Return the folder itself."""
        return self._path


def folder_data(source: str, subset: str | None, split: str | None) -> HubData | None:
    """Return the data set in the folder that ``source`` names; None if it names none.

    Names are ``FOLDER``, ``FOLDER:SPLIT`` and ``FOLDER:SUBSET:SPLIT``.
    """
    for colons in range(3):
        name, *parts = source.rsplit(":", colons) if colons else [source]
        if len(parts) == colons and name and os.path.isdir(name):  # noqa: PTH112 - False for a path with a null character
            first, second = parts[0] if colons == 2 else None, parts[-1] if parts else None
            return HubData(name, subset or first, split or second)
    return None


def named_data(source: str, subset: str | None, split: str | None) -> HubData | None:
    """Return the data set that ``source`` names, or None if ``source`` cannot be the name of one.

    Names are ``owner/name``, ``owner/name:split`` and ``owner/name:subset:split``. ``subset`` and ``split`` replace
    those in the name.
    """
    named = _NAME.fullmatch(source)
    if named is None:
        return None
    first, second = named["first"], named["second"]
    return HubData(named["name"], subset or (first if second else None), split or second or first)


def repository_rows(data: HubData, repository: Repository, questions: Iterable[str]) -> Iterator[DataRow]:
    """Yield the rows of a subset and a split of a data set. The default id of a row is its number in the split.

    Raises ``DataError`` that says what there is and how to choose it.
    """
    files = repository.files()
    readme = repository.fetch([README]) / README if README in files else None
    layout = layout_of(files, readme)
    if not layout.subsets:
        raise DataError(f"the data set {_format_name(data)} has no file of data that Arbiter reads ({', '.join(DATA)})")
    chosen = _choose_split(data, _choose_subset(data, layout.subsets, layout.default))
    if missing := missing_shard(chosen):
        raise DataError(f"the data set {_format_name(data)} lacks the file {missing}: download it again")
    folder = repository.fetch(chosen)
    rows = (row for file in chosen for row in file_rows(folder / file, questions))
    for number, row in enumerate(rows, start=1):
        yield row._replace(number=str(number))


def _choose_subset(data: HubData, known: Mapping[str, Splits], default: str | None) -> Splits:
    if data.subset is not None and data.subset in known:
        return known[data.subset]
    if data.subset is None and default in known:
        return known[cast("str", default)]
    if data.subset is None and len(known) == 1:
        return next(iter(known.values()))
    problem = f"no subset {data.subset!r}" if data.subset else "several subsets"
    names = ", ".join(name for name in known if name) or "none"
    raise DataError(
        f"the data set {_format_name(data)} has {problem}; its subsets are: {names}. Choose one with "
        f"--data {data.name}:SUBSET:SPLIT, or with data.subset in the configuration"
    )


def _choose_split(data: HubData, splits: Splits) -> Sequence[str]:
    if data.split in splits:
        return splits[cast("str", data.split)]
    if data.split is None and "test" in splits:
        return splits["test"]
    if data.split is None and len(splits) == 1:
        return next(iter(splits.values()))
    problem = f"no split {data.split!r}" if data.split else "several splits, none of them 'test'"
    raise DataError(
        f"the data set {_format_name(data)} has {problem}; it has {', '.join(splits)}: "
        f"choose one with --data {data.name}:SPLIT, or with data.split in the configuration"
    )


def _format_name(data: HubData) -> str:
    return repr(":".join(part for part in (data.name, data.subset, data.split) if part))


def hub_repository(name: str) -> Repository:
    """Return a data set of the hub, or the copy of an earlier download if the hub cannot be reached.

    Raises ``DataError`` that says how to fix it. An unreachable hub is reported within seconds.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        what = f"the data set {name!r}, which comes from the Hugging Face hub,"
        raise DataError(f"{not_installed(what, error.name, 'hub')}, {_USE_A_FILE}") from error
    files = _listed(name)
    if not isinstance(files, str):
        return _Hub(name, files)
    try:
        copy = cast("Any", huggingface_hub).snapshot_download(
            name, repo_type="dataset", local_files_only=True, allow_patterns=[README]
        )
        return Folder(Path(copy))
    except Exception as error:
        raise DataError(
            f"cannot load the data set {name!r}: the Hugging Face hub cannot be reached ({files}), and the data "
            f"set is not in the local cache; check the network (and HF_ENDPOINT, HF_HUB_OFFLINE), {_USE_A_FILE}"
        ) from error


class _Hub:
    """A data set of the hub, whose files are downloaded into the cache of ``huggingface_hub`` when they are needed."""

    def __init__(self, name: str, files: Sequence[str]) -> None:
        self._name = name
        self._files = files

    def files(self) -> Sequence[str]:
        return self._files

    def fetch(self, paths: Sequence[str]) -> Path:
        import huggingface_hub

        try:
            found = cast("Any", huggingface_hub).snapshot_download(
                self._name, repo_type="dataset", allow_patterns=list(paths)
            )
        except Exception as error:  # the library's errors have no common base class
            status = getattr(getattr(error, "response", None), "status_code", None)
            gated = (
                "accept its terms on its page, and log in with `hf auth login`" if status in {401, 403} else "try again"
            )
            reason = " ".join(str(error).split())[:400]
            raise DataError(
                f"cannot load the data set {self._name!r} from the hub: {type(error).__name__}: {reason}; {gated}, "
                f"{_USE_A_FILE}"
            ) from error
        return Path(found)


def _listed(name: str) -> Sequence[str] | str:
    """Return the files of a data set of the hub; as a text, why the hub cannot be reached.

    Raises ``DataError`` if the hub has no such data set.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        found = huggingface_hub.HfApi().dataset_info(name, timeout=_SECONDS)
    except HfHubHTTPError as error:
        if error.response.status_code in {401, 403, 404}:
            raise DataError(
                f"the Hugging Face hub has no data set {name!r} that you may read (status "
                f"{error.response.status_code}): check the name, log in with `hf auth login` if it is private, "
                f"{_USE_A_FILE}"
            ) from error
        return f"it answers with status {error.response.status_code}"
    except Exception as error:  # connection errors of the HTTP library, whose classes change between versions
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return [file.rfilename for file in found.siblings or []]
