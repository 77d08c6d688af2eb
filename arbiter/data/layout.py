"""Find the subsets and splits of a folder that has the layout of a data set on the Hugging Face hub.

The metadata in ``README.md`` decides, if it names files (``configs``); reading it needs the extra ``hub``. Otherwise
the names of files and folders do: ``data/test-00000-of-00001.parquet``, ``main/train.jsonl``, ``test/part1.csv``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

from arbiter.protocols.errors import DataError, not_installed

DATA = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
README = "README.md"
_NO_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_SHARD = re.compile(r"(?P<split>.+?)-(?P<number>\d{4,})-of-(?P<count>\d{4,})(?:-[0-9a-f]+)?")
_WORDS = re.compile(r"[a-z]+")
_EVERY_CONFIG = re.compile(r"^configs\s*:", re.MULTILINE)

Splits = Mapping[str, Sequence[str]]
"""The files of each split, relative to the folder, in order."""


class Layout(NamedTuple):
    """The splits of each subset, and the default subset. A data set without subsets has one: ``""``."""

    subsets: Mapping[str, Splits]
    default: str | None


def layout_of(files: Sequence[str], readme: Path | None) -> Layout:
    """Return the layout of the ``files`` of a data set, whose ``README.md`` is ``readme``.

    Raises ``DataError`` if the metadata of ``readme`` cannot be read.
    """
    data = sorted(filter(_is_data, files), key=_in_order)
    configs = _configs(readme)
    described = {str(one.get("config_name", "")): dict(_described(one, data)) for one in configs}
    described = {name: splits for name, splits in described.items() if splits}
    if described:
        chosen = [str(one.get("config_name", "")) for one in configs if one.get("default")]
        return Layout(described, next((name for name in [*chosen, "default"] if name in described), None))
    return Layout(_by_names(data), "")


def missing_shard(files: Sequence[str]) -> str | None:
    """Return the name of a file that should be among ``files``, as ``test-00001-of-00002`` should; None if all are."""
    shards = [shard for file in files if (shard := _SHARD.fullmatch(PurePosixPath(file).stem))]
    present = {(shard["split"], shard["count"], int(shard["number"])) for shard in shards}
    for split, count, _ in present:
        for number in range(int(count)):
            if (split, count, number) not in present:
                return f"{split}-{number:0{len(count)}}-of-{count}"
    return None


def _is_data(file: str) -> bool:
    path = PurePosixPath(file)
    hidden = any(part.startswith((".", "__")) for part in path.parts)
    return path.suffix.lower() in DATA and path.name not in _NO_DATA and not hidden


def _in_order(file: str) -> list[object]:
    """Return a key that sorts ``test2.jsonl`` before ``test10.jsonl``."""
    path = PurePosixPath(file)
    parts = [re.split(r"(\d+)", part) for part in (*path.parts[:-1], path.stem)]
    return [[int(part) if part.isdecimal() else part for part in names] for names in parts]


def _configs(readme: Path | None) -> list[Mapping[str, Any]]:
    """Return the entries of ``configs`` in the metadata that begins a ``README.md``."""
    text = readme.read_text(encoding="utf-8", errors="replace") if readme is not None and readme.is_file() else ""
    metadata = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
    if readme is None or not _EVERY_CONFIG.search(metadata):
        return []
    try:
        import huggingface_hub
    except ImportError as error:
        raise DataError(not_installed(f"{readme}: the metadata, which names the files,", error.name, "hub")) from error
    load = cast("Any", huggingface_hub).metadata_load
    try:
        found = cast("Mapping[str, Any]", load(readme) or {}).get("configs")
    except Exception as error:  # the errors of the YAML library
        raise DataError(f"{readme}: the metadata at its start is not YAML: {' '.join(str(error).split())}") from error
    listed = cast("list[object]", found) if isinstance(found, list) else []
    return [cast("Mapping[str, Any]", one) for one in listed if isinstance(one, Mapping)]


def _described(config: Mapping[str, Any], data: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the splits that an entry of ``configs`` describes, with their files."""
    folder = PurePosixPath(str(config.get("data_dir") or "."))
    entries = config.get("data_files")
    if entries is None and config.get("data_dir"):
        yield from _by_split([file for file in data if PurePosixPath(file).is_relative_to(folder)]).items()
        return
    given = cast("list[object]", entries) if isinstance(entries, list) else [entries]
    if all(isinstance(one, str) for one in given):
        given = [{"split": "train", "path": given}]
    for one in given:
        if isinstance(one, Mapping):
            entry = cast("Mapping[str, Any]", one)
            paths = cast("list[object]", entry["path"]) if isinstance(entry.get("path"), list) else [entry.get("path")]
            files = [file for path in paths for file in data if _matches(file, str(folder / str(path)))]
            if files:
                yield str(entry.get("split", "train")), list(dict.fromkeys(files))


def _matches(file: str, pattern: str) -> bool:
    """Return whether a file is what a pattern names; ``*`` stays within a folder, ``**`` does not."""
    parts = ("(?:.*/)?" if part == "**/" else _translated(part) for part in re.split(r"(\*\*/)", pattern))
    return re.fullmatch("".join(parts), file) is not None


def _translated(pattern: str) -> str:
    signs = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(signs.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*|\?)", pattern))


def _by_names(data: Sequence[str]) -> dict[str, Splits]:
    """Return the layout that the names say: a folder above the splits is a subset, except ``data``."""
    subsets: dict[str, list[str]] = {}
    for file in data:
        first = PurePosixPath(file).parts[:-1][:1]
        named = first and first[0] != "data" and not _SPLITS.get(first[0].lower())
        subsets.setdefault(first[0] if named else "", []).append(file)
    return {name: _by_split(files) for name, files in subsets.items()}


def _by_split(files: Sequence[str]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for file in files:
        splits.setdefault(_split_of(PurePosixPath(file)), []).append(file)
    return splits


def _split_of(path: PurePosixPath) -> str:
    """Return the split of a file: of its name, else of its folders, else ``train``."""
    if shard := _SHARD.fullmatch(path.stem):
        return shard["split"]
    for part in (path.stem, *reversed(path.parts[:-1])):
        for word in _WORDS.findall(part.lower()):
            if word in _SPLITS:
                return _SPLITS[word]
    return "train"
