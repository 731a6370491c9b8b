"""Tests of the HTML page of the OpenAPI document."""

import re
from html.parser import HTMLParser

from schemas.documents import openapi
from schemas.documents.page import page

VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Parser that checks the nesting of elements and collects ids and links."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.ids |= {value or "" for name, value in attrs if name == "id"}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_openapi_page_lists_routes_without_external_resources() -> None:
    document = openapi.document()
    text = page(document)
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert {link for link in reader.links if not link.startswith("#")} == {"openapi.json"}
    assert {link[1:] for link in reader.links if link.startswith("#")} <= reader.ids
    assert all(f"<code>{path}</code>" in text for path in document["paths"])
    assert "<script" not in text
    assert not re.search(r"url\(|@import", text)
