"""Reports as Markdown and as an HTML page."""

from pathlib import Path

from arbiter.evaluation.paper.document import DocumentTable, Heading, Paragraph, Picture, markdown, page


def test_markdown_keeps_bars_in_cells_apart_from_columns() -> None:
    text = markdown([DocumentTable(["name", "value"], [["a|b", "1"]])])
    assert text == "| name | value |\n| --- | ---: |\n| a\\|b | 1 |\n"


def test_what_stands_in_a_page_is_text_and_never_markup(tmp_path: Path) -> None:
    shown = page([Heading("<script>", 1), Paragraph("a & b"), DocumentTable(["<i>"], [["</td>"]])], tmp_path)
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "a &amp; b" in shown
    assert "&lt;/td&gt;" in shown


def test_pictures_are_in_the_page_itself(tmp_path: Path) -> None:
    (tmp_path / "plot.svg").write_text("<svg/>")
    shown = page([Heading("Report", 1), Picture("plot", 'what "it" shows')], tmp_path)
    assert 'src="data:image/svg+xml;base64,PHN2Zy8+"' in shown
    assert 'alt="what &quot;it&quot; shows"' in shown
    assert markdown([Picture("plot", "a plot")]) == "![a plot](plot.png)\n"
