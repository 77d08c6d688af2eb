"""Plots of runs, tested on their pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from arbiter.config.run_tables import RunType
from arbiter.runs.intervals import wilson_interval
from arbiter.runs.reports.plot_labels import Label, place_labels
from arbiter.runs.reports.plots import STYLES, accuracy_by_acceptance, accuracy_by_target_tokens, draw, names
from arbiter.runs.reports.tables import ReportRow
from arbiter.runs.results import Cost, Latency, ModelTokens, summarise
from tests.hypothesis_profiles import examples

EMPTY = summarise([], "router", 0.5, 1.0)


def entry(name: str = "run", run_type: RunType = "router", threshold: float | None = 0.5, **fields: Any) -> ReportRow:
    """Return a run with all figures that plots use."""
    given: dict[str, Any] = {
        "acceptance_rate": 0.5,
        "accuracy": 0.5,
        "accuracy_interval": wilson_interval(5, 10),
        "decoded": 10,
        "latency": Latency(2.0, 1.5, 4.0),
        "tokens": {"draft": ModelTokens(kept=50, discarded=30), "target": ModelTokens(kept=40, discarded=5)},
        **fields,
    }
    return ReportRow(name, msgspec.structs.replace(EMPTY, run_type=run_type, threshold=threshold, **given))


def colours(path: Path) -> set[tuple[int, ...]]:
    """Return the colours of an image file."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = image.convert("RGB").getcolors(maxcolors=image.width * image.height) or []
    return {colour for _, colour in pixels if isinstance(colour, tuple)}


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))


def labels_of(axes: Any) -> list[Any]:
    return [text for text in axes.texts if text.get_text()]


@pytest.mark.slow
def test_all_plots_are_images_that_are_not_blank(tmp_path: Path) -> None:
    priced = entry(cost=Cost({"draft": 1.0, "target": 2.0}, 3.0))
    drawn = draw([priced, entry("draft", "draft", None)], tmp_path)
    assert drawn == ["accuracy.png", "target-tokens.png", "latency.png", "tokens.png", "cost.png"]
    for name in drawn:
        assert len(colours(tmp_path / name)) > 10, name


@pytest.mark.slow
def test_a_run_is_drawn_in_the_colour_of_its_type(tmp_path: Path) -> None:
    types: list[RunType] = ["router", "rsd", "target"]
    draw([entry(run_type, run_type, acceptance_rate=n / 2) for n, run_type in enumerate(types)], tmp_path)
    found = colours(tmp_path / "accuracy.png")
    coloured = STYLES.keys() - {"target", "random"}  # text has black and grey pixels
    assert {name for name in coloured if rgb(STYLES[name][0]) in found} == {"router", "rsd"}


@pytest.mark.slow
def test_discarded_tokens_are_drawn_apart_from_kept_ones(tmp_path: Path) -> None:
    kept = entry(tokens={"draft": ModelTokens(kept=80)})
    draw([kept], tmp_path)
    without = (tmp_path / "tokens.png").read_bytes()
    draw([entry(tokens={"draft": ModelTokens(kept=50, discarded=30)})], tmp_path)
    assert (tmp_path / "tokens.png").read_bytes() != without


@pytest.mark.parametrize(
    ("fields", "drawn"),
    [
        ({}, ["accuracy.png", "target-tokens.png", "latency.png", "tokens.png"]),
        ({"accuracy": None, "accuracy_interval": None}, ["latency.png", "tokens.png"]),
        ({"latency": Latency(None, None, None)}, ["accuracy.png", "target-tokens.png", "tokens.png"]),
        ({"tokens": {}}, ["accuracy.png", "latency.png"]),
        ({"decoded": 0}, ["accuracy.png", "latency.png"]),
    ],
)
@pytest.mark.slow
def test_what_has_no_figures_is_not_drawn(tmp_path: Path, fields: dict[str, Any], drawn: list[str]) -> None:
    assert draw([entry(**fields)], tmp_path) == drawn
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(drawn)


def test_the_runs_of_a_type_are_one_series_in_the_order_of_their_acceptance() -> None:
    figure: Any = accuracy_by_acceptance([entry(acceptance_rate=rate) for rate in (0.7, 0.1, 0.4)])
    [container] = figure.axes[0].containers
    assert list(container.lines[0].get_xdata()) == [0.1, 0.4, 0.7]


def test_accuracy_is_drawn_against_the_tokens_that_the_target_wrote_per_problem() -> None:
    runs = [entry(tokens={"target": ModelTokens(kept=kept, discarded=20)}) for kept in (80, 30)]
    figure: Any = accuracy_by_target_tokens([*runs, entry("draft", "draft", None, tokens={})])
    draft, router = (container for container in figure.axes[0].containers)
    assert (draft.get_label(), router.get_label()) == ("router", "draft")
    assert list(draft.lines[0].get_xdata()) == [5, 10]
    assert list(router.lines[0].get_xdata()) == [0]


def test_no_axis_shows_a_threshold() -> None:
    runs = [entry("a", "rsd", 0.7), entry("b", "router", 0.5, acceptance_rate=0.9)]
    figure: Any = accuracy_by_acceptance(runs)
    [axes] = figure.axes
    assert ("acceptance" in axes.get_xlabel(), "accuracy" in axes.get_ylabel()) == (True, True)


def test_thresholds_that_come_out_at_one_place_share_a_label() -> None:
    figure: Any = accuracy_by_acceptance([entry(threshold=threshold) for threshold in (0.3, 0.5, 0.9)])
    assert [text.get_text() for text in labels_of(figure.axes[0])] == ["τ = 0.3 to 0.9"]


points = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=15)


@examples(0.5)
@given(points)
@pytest.mark.slow
def test_labels_cover_neither_one_another_nor_a_point_nor_the_edge(places: list[tuple[float, float]]) -> None:
    figure, axes = canvas()
    place_labels(figure, axes, [Label(x, y, "τ = 0.5", "black") for x, y in places], [])
    boxes = [text.get_window_extent() for text in labels_of(axes)]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert not any(box.contains(*axes.transData.transform(place)) for place in places)
        assert axes.bbox.x0 <= box.x0 <= box.x1 <= axes.bbox.x1


def test_a_label_keeps_off_what_joins_the_points() -> None:
    figure, axes = canvas()
    line = [(0.5, 0.5), (1.0, 0.5)]
    place_labels(figure, axes, [Label(0.5, 0.5, "τ = 0.5", "black")], [line])
    [text] = labels_of(axes)
    assert text.get_window_extent().x1 < axes.transData.transform((0.5, 0.5))[0]


def test_a_label_without_room_is_left_out() -> None:
    figure, axes = canvas()
    crowd = [[(0.0, height / 50), (1.0, height / 50)] for height in range(51)]
    place_labels(figure, axes, [Label(0.5, 0.5, "τ = 0.5", "black")], crowd)
    assert labels_of(axes) == []


def canvas() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    return figure, axes


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([("a", "router", 0.5), ("b", "draft", None)], ["router, τ = 0.5", "draft"]),
        ([("x/a", "router", 0.5), ("x/b", "router", 0.5)], ["router, τ = 0.5 (a)", "router, τ = 0.5 (b)"]),
        ([("x/a", "router", 0.5), ("y/a", "router", 0.5)], ["router, τ = 0.5 (x/a)", "router, τ = 0.5 (y/a)"]),
    ],
)
def test_a_run_is_called_by_its_type_and_by_its_folder_only_where_that_is_needed(
    runs: Sequence[tuple[str, RunType, float | None]], expected: list[str]
) -> None:
    assert names([entry(*run) for run in runs]) == expected


@pytest.mark.slow
def test_names_that_look_like_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    assert draw([entry("$x_1$ {"), entry("a very long name " * 10)], tmp_path)


@pytest.mark.slow
def test_many_runs_are_drawn_in_a_higher_figure(tmp_path: Path) -> None:
    def height(runs: int) -> int:
        draw([entry(str(n), threshold=n / 100) for n in range(runs)], tmp_path)
        with Image.open(tmp_path / "latency.png") as image:
            return image.height

    assert height(30) > 2 * height(3)
