"""The data sets that have a name of their own: where each comes from, and the setting in which it is used."""

import msgspec

from arbiter.data.hub import HubData


class KnownSet(msgspec.Struct, frozen=True, kw_only=True):
    """A published data set."""

    data: HubData


KNOWN: dict[str, KnownSet] = {
    "math500": KnownSet(data=HubData("HuggingFaceH4/MATH-500", split="test")),
    "olympiadbench": KnownSet(data=HubData("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train")),
}


def known_data(source: str, subset: str | None, split: str | None) -> HubData | None:
    """Return the data set with the name ``source``; None if there is none. ``subset`` and ``split`` replace its own."""
    known = KNOWN.get(source.lower())
    return known and HubData(known.data.name, subset or known.data.subset, split or known.data.split)
