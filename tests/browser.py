"""Debian's Chromium for tests of the console: windows whose errors fail a test, and acts as a person does them.

A window collects all errors that the browser reports, with the paths of their resources. A test names the errors that
it causes on purpose (`expects`). At the end of the window any other error fails the test, and so does a missing one.
"""

import asyncio
import base64
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypedDict
from urllib.parse import urlsplit

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Response,
    ViewportSize,
    async_playwright,
    expect,
)

from tests.waiting import until


class _Look(TypedDict):
    """Options of a window that its person sees."""

    viewport: ViewportSize
    color_scheme: Literal["dark", "light"]


AXE = (Path(__file__).parent / "axe.min.js").read_text()
"""axe-core 4.14.1 from npm, under the Mozilla Public License 2.0."""
DESKTOP: Final[_Look] = {"viewport": {"width": 1280, "height": 720}, "color_scheme": "light"}
PHONE: Final[_Look] = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}
"""Options of a window like that of a phone with dark colours."""
_TIMEOUT_MS = 60_000
_MOST_KEYS = 100
"""Presses of the tab key after which a control counts as unreachable."""
_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_DROP = """(place, [content, name]) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(content), (one) => one.charCodeAt(0))], name));
    place.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""

expect.set_options(timeout=_TIMEOUT_MS)


@dataclass(frozen=True)
class BrowserWindow:
    """A window of the browser with its own cookies, and the errors that it has reported."""

    url: str
    """Address of the gateway."""
    page: Page
    context: BrowserContext
    errors: list[str] = field(default_factory=list[str])
    """Errors as `PATH: TEXT`."""
    expected: list[re.Pattern[str]] = field(default_factory=list[re.Pattern[str]])

    def expects(self, path: str, text: str) -> None:
        """Expect an error of the browser about the resource at `path` that contains `text`, at least once."""
        self.expected.append(re.compile(f"{re.escape(path)}: .*{re.escape(text)}"))

    async def open(self, path: str) -> None:
        """Open a page, and wait until its scripts have run."""
        await self.page.goto(f"{self.url}{path}")
        await self.page.wait_for_load_state("load")

    async def resemble(self, look: _Look) -> None:
        """Make the window, with the page in it, look like one opened with these options."""
        await self.page.set_viewport_size(look["viewport"])
        await self.page.emulate_media(color_scheme=look["color_scheme"])

    async def click(self, button: str, *, accept: bool = True) -> str:
        """Click a button; return the text of the dialog that opened and was answered, empty if there was none."""
        texts = list[str]()

        async def answer(dialog: Dialog) -> None:
            texts.append(dialog.message)
            await (dialog.accept() if accept else dialog.dismiss())

        self.page.on("dialog", answer)
        try:
            await self.page.get_by_role("button", name=button, exact=True).click()
        finally:
            self.page.remove_listener("dialog", answer)
        return "".join(texts)

    async def submit(self, path: str, button: str, *, confirm: str = "") -> None:
        """Submit the form of an act by its button, and wait for the answer.

        Args:
            path: path to which the form is sent; `{name}` stands for any text without a slash.
            button: name of the button.
            confirm: text of the dialog that must open and is accepted; empty if none may open.
        """
        pattern = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)))

        def is_act(response: Response) -> bool:
            return response.request.method == "POST" and pattern.fullmatch(urlsplit(response.url).path) is not None

        async with self.page.expect_response(is_act):
            asked = await self.click(button)
        assert asked == confirm

    async def drop(self, file: Path, place: Locator) -> None:
        """Drop a file on a place of the page, as from a folder of the desktop."""
        content = await asyncio.to_thread(file.read_bytes)
        await place.evaluate(_DROP, [base64.b64encode(content).decode(), file.name])

    async def tab_to(self, control: Locator) -> None:
        """Press the tab key until a control has the focus."""
        for _ in range(_MOST_KEYS):
            if await control.evaluate("one => one === document.activeElement"):
                return
            await self.page.keyboard.press("Tab")
        raise AssertionError(f"{control} cannot be reached by the tab key")

    async def updated(self) -> None:
        """Wait until the page has received its first update."""
        await expect(self.page.locator("body[data-updates]")).to_be_visible()

    async def check(self) -> None:
        """Assert that axe finds no violation on the page, and that the page is not wider than the window."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(AXE)
        found: Any = await self.page.evaluate("axe.run({resultTypes: ['violations']})")
        said = [
            f"{one['id']}: {one['nodes'][0]['html']} {one['nodes'][0]['failureSummary']}" for one in found["violations"]
        ]
        assert not said, "\n".join([self.page.url, *said])
        assert await self.page.evaluate(_OVERFLOW) == 0, f"{self.page.url} is wider than the window"

    async def end(self) -> None:
        """Assert that the browser reported the expected errors and no other.

        Raises:
            AssertionError: it did not.
        """
        others = [one for one in self.errors if not any(pattern.match(one) for pattern in self.expected)]
        assert not others, "\n".join(others)
        await until(lambda: all(any(map(pattern.match, self.errors)) for pattern in self.expected))


@asynccontextmanager
async def opened_browser() -> AsyncGenerator[Browser]:
    """Run Chromium while the context is open; without it the test is skipped, and with CI set it fails."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def opened_window(browser: Browser, url: str, **options: Any) -> AsyncGenerator[BrowserWindow]:
    """Open a window while the context is open; fail if the browser reports errors that the test does not expect.

    Errors count of pages and files of the gateway at `url`, and of whatever its pages ask for.
    """
    context = await browser.new_context(**options)
    window = BrowserWindow(url, await context.new_page(), context)
    window.page.set_default_timeout(_TIMEOUT_MS)

    def on_error(source: str, text: str) -> None:
        if any(one.startswith(url) for one in (source, window.page.url)):  # pages of an issuer are its own
            window.errors.append(f"{urlsplit(source).path}: {text}")

    def on_message(message: ConsoleMessage) -> None:
        if message.type == "error":
            on_error(message.location["url"], message.text)

    window.page.on("console", on_message)
    window.page.on("pageerror", lambda error: on_error(window.page.url, str(error)))
    try:
        yield window
        await window.end()
    finally:
        await context.close()
