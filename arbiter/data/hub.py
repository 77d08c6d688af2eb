"""Load data sets of the Hugging Face hub with the ``datasets`` library (the extra ``hub``)."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec

from arbiter.protocols.errors import DataError

_SECONDS = 5.0
_NAME = re.compile(
    r"(?P<name>\w[\w.-]*/\w[\w.-]*)(?::(?P<first>[\w.-]+))?(?::(?P<second>[\w.-]+))?",
)
_USE_A_FILE = "or give --data the path of a JSONL file"

Rows = Iterable[Mapping[str, Any]]
Load = Callable[[str, str | None], Mapping[str, Rows]]


class HubData(msgspec.Struct, frozen=True):
    """A data set by its name on the hub. Without ``split``, the split ``test`` is taken, else the only one."""

    name: str
    subset: str | None = None
    split: str | None = None


BENCHMARKS = {
    "math500": HubData("HuggingFaceH4/MATH-500", split="test"),
    "olympiadbench": HubData("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train"),
}


def hub_data(source: str, subset: str | None, split: str | None) -> HubData | None:
    """Return the data set that ``source`` names, or None if ``source`` cannot be the name of one.

    Names are those of the known benchmarks, ``owner/name``, ``owner/name:split`` and ``owner/name:subset:split``.
    ``subset`` and ``split`` replace those in the name.
    """
    known = BENCHMARKS.get(source.lower())
    if known is not None:
        return HubData(known.name, subset or known.subset, split or known.split)
    named = _NAME.fullmatch(source)
    if named is None:
        return None
    first, second = named["first"], named["second"]
    return HubData(named["name"], subset or (first if second else None), split or second or first)


def hub_rows(data: HubData, load: Load | None = None) -> Rows:
    """Return the rows of a data set.

    Raises ``DataError`` that says what was tried and how to fix it. An unreachable hub is reported within seconds.
    """
    try:
        splits = (load or _load)(data.name, data.subset)
    except DataError:
        raise
    except Exception as error:  # the library's errors have no common base class
        reason = " ".join(str(error).split())[:400]
        raise DataError(
            f"cannot load the data set {_format_name(data)} from the hub: {type(error).__name__}: {reason}; "
            f"name a subset with OWNER/NAME:SUBSET:SPLIT or data.subset, {_USE_A_FILE}"
        ) from error
    return splits[_choose_split(data, list(splits))]


def _choose_split(data: HubData, splits: Sequence[str]) -> str:
    if data.split in splits:
        return cast("str", data.split)
    if data.split is None and "test" in splits:
        return "test"
    if data.split is None and len(splits) == 1:
        return splits[0]
    problem = f"no split {data.split!r}" if data.split else "several splits, none of them 'test'"
    raise DataError(
        f"the data set {_format_name(data)} has {problem}; it has {', '.join(splits)}: "
        f"choose one with OWNER/NAME:SPLIT, or with data.split in the configuration"
    )


def _format_name(data: HubData) -> str:
    return repr(":".join(part for part in (data.name, data.subset, data.split) if part))


def _load(name: str, subset: str | None) -> Mapping[str, Rows]:
    """Return all splits of a data set from the hub, or from the local cache if the hub cannot be reached."""
    try:
        import datasets  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise DataError(
            f"the data set {name!r} comes from the Hugging Face hub, which needs the extra 'hub': "
            f"pip install -e '.[hub]', {_USE_A_FILE}"
        ) from error
    library = cast("Any", datasets)
    unreachable = _unreachable(name)
    if unreachable is None:
        return library.load_dataset(name, subset)
    before = library.config.HF_HUB_OFFLINE
    library.config.HF_HUB_OFFLINE = True  # otherwise the library retries for half a minute
    try:
        return library.load_dataset(name, subset)
    except Exception as error:
        raise DataError(
            f"cannot load the data set {name!r}: the Hugging Face hub cannot be reached ({unreachable}), and the data "
            f"set is not in the local cache; check the network (and HF_ENDPOINT, HF_HUB_OFFLINE), {_USE_A_FILE}"
        ) from error
    finally:
        library.config.HF_HUB_OFFLINE = before


def _unreachable(name: str) -> str | None:
    """Return why the hub cannot be reached, or None if it can.

    Raises ``DataError`` if the hub has no such data set.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        huggingface_hub.HfApi().dataset_info(name, timeout=_SECONDS)
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
    return None
