"""Place labels next to the points of a plot, where they cover nothing (needs the extra ``plot``)."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]
Point = tuple[float, float]

_SIZE = 8.5
_MARKER = 5.0  # points from a marker's middle to its edge
_NEAR, _FAR = 8.0, 13.0
# Positions of a label relative to its point, best first: the offset in points, and which corner of the label is there.
_PLACES: tuple[tuple[float, float, str, str], ...] = tuple(
    (across * distance, up * distance, horizontal, vertical)
    for distance in (_NEAR, _FAR)
    for across, up, horizontal, vertical in (
        (1, 0, "left", "center"),
        (-1, 0, "right", "center"),
        (0.7, 0.7, "left", "bottom"),
        (0.7, -0.7, "left", "top"),
        (-0.7, 0.7, "right", "bottom"),
        (-0.7, -0.7, "right", "top"),
    )
)


class Label(msgspec.Struct, frozen=True):
    """A text for the point (``x``, ``y``)."""

    x: float
    y: float
    text: str
    colour: str


def place_labels(figure: "Figure", axes: Any, labels: Sequence[Label], lines: Iterable[Sequence[Point]]) -> None:  # noqa: ANN401 - matplotlib's axes
    """Draw each of ``labels`` where it covers no point, no label and none of ``lines``, or leave it out.

    ``lines`` are in the units of the axes. Call this after everything else is drawn: the layout must be final.
    """
    figure.draw_without_rendering()  # computes the layout
    to_pixels = axes.transData.transform
    pixels = figure.dpi / 72
    taken = [_around(to_pixels((label.x, label.y)), _MARKER * pixels) for label in labels]
    for line in lines:
        taken += [_around(point, 2 * pixels) for point in _along([tuple(to_pixels(end)) for end in line], 3 * pixels)]
    inside: Box = axes.bbox.extents
    for label in labels:
        for across, up, horizontal, vertical in _PLACES:
            text = axes.annotate(
                label.text, (label.x, label.y), xytext=(across, up), textcoords="offset points", ha=horizontal,
                va=vertical, fontsize=_SIZE, color=label.colour, in_layout=False, zorder=4,
            )  # fmt: skip
            box: Box = tuple(text.get_window_extent().extents)
            if _within(box, inside) and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                break
            text.remove()


def _around(point: Point, reach: float) -> Box:
    return point[0] - reach, point[1] - reach, point[0] + reach, point[1] + reach


def _along(ends: Sequence[Point], every: float) -> list[Point]:
    """Return points on the line through ``ends``, at most ``every`` pixels apart."""
    points = list(ends[:1])
    for start, stop in itertools.pairwise(ends):
        count = max(1, math.ceil(math.dist(start, stop) / every))
        points += [
            (start[0] + (stop[0] - start[0]) * n / count, start[1] + (stop[1] - start[1]) * n / count)
            for n in range(1, count + 1)
        ]
    return points


def _within(box: Box, outer: Box) -> bool:
    return outer[0] <= box[0] and outer[1] <= box[1] and box[2] <= outer[2] and box[3] <= outer[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
