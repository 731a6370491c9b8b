"""Fixtures: Debian's Chromium, the guarded system with one of each key, and a visitor of its console.

All tests share one event loop, browser and system. A visitor's page fails its test if the browser reports an error, or
if axe finds a violation of the rules of accessibility.
"""

import json
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

from tests.system.infaas.conftest import Cli

AXE = (Path(__file__).parent / "axe.min.js").read_text()
"""axe-core 4.14.1 from npm, under the Mozilla Public License 2.0."""
EXPECTED = ("status of 4", "status of 5", "ERR_", "net::")
"""Texts of errors that the browser reports for an answer with an error's status, which a test may want."""


expect.set_options(timeout=30_000)


class ConsoleSite(NamedTuple):
    """A system with its console and a key of each kind."""

    cli: Cli
    url: str
    admin: str
    tenant: str
    publisher: str
    """Key of the tenant with the role publish."""
    stranger: str
    """Key of another tenant with the role query."""


class Visitor(NamedTuple):
    """A browser window with its own cookies, and the errors that it has reported."""

    site: ConsoleSite
    page: Page
    context: BrowserContext
    errors: list[str]

    async def open(self, path: str) -> None:
        """Open a page, and wait until its scripts have run."""
        await self.page.goto(f"{self.site.url}{path}")
        await self.page.wait_for_load_state("load")

    async def sign_in(self, key: str, path: str = "/console") -> None:
        """Sign in by a key, and arrive at a page."""
        await self.open(path)
        await self.page.get_by_label("API key").fill(key)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.page.wait_for_url(f"**{path}")

    async def outcome(self) -> str:
        """Return the text that an act has left."""
        shown = self.page.locator("#outcome p").first
        await shown.wait_for()
        return await shown.inner_text()

    async def updated(self) -> None:
        """Wait until the page has received its first update."""
        await expect(self.page.locator("body[data-updates]")).to_be_visible()

    async def check(self) -> None:
        """Assert that axe finds no violation on the page."""
        await self.page.evaluate(AXE)
        found: Any = await self.page.evaluate("axe.run({resultTypes: ['violations']})")
        said = [
            f"{one['id']}: {one['nodes'][0]['html']} {one['nodes'][0]['failureSummary']}" for one in found["violations"]
        ]
        assert not said, "\n".join([self.page.url, *said])


@pytest.fixture(scope="package")
def chromium() -> str:
    """Path of Chromium; with CI set, a skipped test is a failed one."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    return path


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser(chromium: str) -> AsyncGenerator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def site(guarded: Cli) -> ConsoleSite:
    state, word = await guarded.state_when(lambda one: one["ready"]), uuid4().hex[:6]
    tenant = f"acme-{word}"
    admin = await guarded.json("keys", "create", "--role=admin")
    publisher = await guarded.json("keys", "create", f"--tenant={tenant}", "--role=publish")
    stranger = await guarded.json("keys", "create", f"--tenant=other-{word}")
    return ConsoleSite(guarded, state["gateway"], admin["key"], tenant, publisher["key"], stranger["key"])


@asynccontextmanager
async def visiting(browser: Browser, site: ConsoleSite, **options: Any) -> AsyncGenerator[Visitor]:
    """Open a window while the context is open; fail if the browser has reported an error."""
    context = await browser.new_context(**options)
    page, errors = await context.new_page(), list[str]()
    page.set_default_timeout(30_000)

    def on_message(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(text in message.text for text in EXPECTED):
            errors.append(message.text)

    page.on("console", on_message)
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        yield Visitor(site, page, context, errors)
        assert not errors, json.dumps(errors)
    finally:
        await context.close()


@pytest_asyncio.fixture(loop_scope="package")
async def visitor(browser: Browser, site: ConsoleSite) -> AsyncGenerator[Visitor]:
    async with visiting(browser, site) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="package")
async def administrator(visitor: Visitor) -> Visitor:
    await visitor.sign_in(visitor.site.admin)
    visitor.page.on("dialog", lambda dialog: dialog.accept())
    return visitor


class ImageTask(NamedTuple):
    """A task that takes images, with one registered model."""

    task: str
    model: str
    variant: str


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def image_task(site: ConsoleSite) -> ImageTask:
    word = uuid4().hex[:6]
    task, model = f"images-{word}", f"mlp-{word}"
    words = (f"--name={model}", "--image=28x28:grey", "--top=1")
    [made] = await site.cli.register("mnist_mlp.onnx", *words, task=task, data="mnist-image", most=300)
    return ImageTask(task, model, made["name"])
