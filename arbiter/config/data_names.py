"""The names of data sets that ``data.source`` can have. A file or folder of such a name needs ``./`` before it."""

DRAWN = ("pocket", "pocket-train", "pocket-programs", "pocket-functions", "pocket-tools")
"""The worlds whose problems are drawn from a seed, which ``arbiter.data.drawn_sets`` describes."""

_OTHERS = ("champ", "-")
PUBLISHED = (
    "aime24",
    "aime25",
    "aime26",
    "amc23",
    "arc-challenge",
    "college_math",
    "gpqa-diamond",
    "gsm8k",
    "humaneval+",
    "livecodebench",
    "math500",
    "mbpp+",
    "minerva_math",
    "mmlu-pro",
    "olympiadbench",
)
"""The published data sets, which ``arbiter.data.known_sets`` describes."""


def is_drawn(source: str) -> bool:
    """Return whether ``source`` names a world whose problems are drawn from a seed, without end."""
    return source.partition(":")[0] in DRAWN


def is_data_name(source: str) -> bool:
    """Return whether ``source`` is the name of a known data set, which no file or folder hides."""
    return is_drawn(source) or source in _OTHERS or source.lower() in PUBLISHED
