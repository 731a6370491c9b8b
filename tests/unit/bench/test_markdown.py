"""Tests of the Markdown of generated pages."""

from bench.markdown import paragraph, table


def test_table_aligns_columns_by_letter() -> None:
    assert table(["case", "figure"], "lr", [["one", "1"], ["none", ""]]) == [
        "| case | figure |",
        "|---|---:|",
        "| one | 1 |",
        "| none |  |",
    ]


def test_paragraph_breaks_at_spaces_only() -> None:
    lines = paragraph("* " + "end-to-end " * 12 + "x" * 130, indent="  ").splitlines()
    assert lines == ["* " + " ".join(["end-to-end"] * 10), "  end-to-end end-to-end", "  " + "x" * 130]
