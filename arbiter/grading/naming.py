"""Lists, also of names with their values: ``x = 1, y = 2`` has the order in which the values stand without names."""

import re
from collections.abc import Sequence

from arbiter.grading.readings import Named, OrderedItems, Reading, UnorderedItems

_NUMBERED = re.compile(r"(?P<letter>.*[A-Za-z])_?(?P<number>\d+)")


def unfolded(reading: Reading) -> Reading:
    """Return ``(x, y) = (1, 2)`` as the list ``x = 1, y = 2``; any other reading as it is."""
    if isinstance(reading, Named) and reading.name.startswith("(") and isinstance(reading.reading, OrderedItems):
        names, items = reading.name.strip("()").split(","), reading.reading.items
        if len(names) == len(items):
            return UnorderedItems(tuple(map(Named, names, items)))
    return reading


def listed(readings: Sequence[Reading], *, choice: bool = False) -> UnorderedItems:
    """Return readings as one list. Lists within it become parts of it, unless they give several names their values."""
    flat: list[Reading] = []
    for reading in readings:
        if isinstance(reading, UnorderedItems) and not reading.braces and not ordered_values(reading.items):
            flat.extend(reading.items)
            choice = choice or reading.choice
        else:
            flat.append(reading)
    return UnorderedItems(tuple(flat), choice=choice)


def ordered_values(items: Sequence[Reading]) -> list[Reading] | None:
    """Return the values in the order of their names, empty if there is none; None with fewer than two names.

    Letters that follow each other, such as x and y, and numbered names have their own order. The order of other names
    is that of the list. There is none if a name has several values, or if a value has no name.
    """
    named = [item for item in items if isinstance(item, Named)]
    names = [item.name for item in named]
    if len(set(names)) < 2:
        return None
    if len(set(names)) < len(items):
        return []
    letters, numbers = sorted(names), [match for name in names if (match := _NUMBERED.fullmatch(name))]
    if all(len(name) == 1 for name in names) and ord(letters[-1]) - ord(letters[0]) == len(letters) - 1:
        named.sort(key=lambda item: item.name)
    elif len(numbers) == len(names) and len({match["letter"] for match in numbers}) == 1:
        order = {match.string: int(match["number"]) for match in numbers}
        named.sort(key=lambda item: order[item.name])
    return [item.reading for item in named]


def are_numbered(items: Sequence[Reading]) -> bool:
    """Return whether all items are values of one letter with numbers, such as the roots ``x_1 = 1, x_2 = 3``."""
    matches = [_NUMBERED.fullmatch(item.name) if isinstance(item, Named) else None for item in items]
    return len({match["letter"] if match else None for match in matches}) == 1 and None not in matches
