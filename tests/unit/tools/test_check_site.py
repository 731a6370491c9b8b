"""Tests of the check of the built manual: pages that `llms.txt` lacks, and links that lead nowhere on a gateway."""

from pathlib import Path

import pytest

from tools.check_site import problems

LISTED = "# INFaaS\n\n- [Home](_sources/index.md.txt)\n- [Command line](_sources/reference/cli.md.txt)\n"


@pytest.mark.parametrize(
    ("llms", "found"),
    [
        (LISTED, []),
        (LISTED.replace("_sources/reference", "/_sources/reference"),
         ["/_sources/reference/cli.md.txt is not served", "/docs/llms.txt does not list reference/cli"]),
        (LISTED + "- [Gone](_sources/gone.md.txt)\n", ["/docs/_sources/gone.md.txt is not served"]),
        (LISTED[: LISTED.index("- [Command")], ["/docs/llms.txt does not list reference/cli"]),
        (None, ["/docs/llms.txt is not served", "/docs/llms.txt does not list index",
                "/docs/llms.txt does not list reference/cli"]),
    ],
)  # fmt: skip
async def test_problems_are_pages_that_no_reader_finds(tmp_path: Path, llms: str | None, found: list[str]) -> None:
    for page in ("index", "reference/cli", "search"):
        for file in (tmp_path / f"{page}.html", tmp_path / "_sources" / f"{page}.md.txt"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(page)
    if llms is not None:
        (tmp_path / "llms.txt").write_text(llms)
    assert await problems(tmp_path) == found
