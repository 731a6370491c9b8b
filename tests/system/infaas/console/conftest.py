"""Fixtures: Chromium, the guarded system with one of each key, a visitor of its console, and tasks to ask.

All tests share one event loop, browser and system.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import pytest_asyncio
from playwright.async_api import Browser, StorageState

from broker.dead_letters.letter import publish_dead_letter
from broker.kafka.types import Record
from broker.producing.producer import Producer
from infaas.cli.connect import find_kafka
from schemas import headers as h
from schemas.topics import task_topic
from tests.browser import BrowserWindow, opened_browser, opened_window
from tests.system.infaas.conftest import UP_S, Cli
from tests.waiting import read_until
from zoo.samples import DATA


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

    async def ask(self, method: str, path: str, **content: Any) -> Any:
        """Send a request to the API as the administrator; return the answer's JSON."""
        headers = {"Authorization": f"Bearer {self.admin}"}
        async with (
            aiohttp.ClientSession(self.url, headers=headers, raise_for_status=True) as http,
            http.request(method, path, **content) as answer,
        ):
            return await answer.json()

    async def put_job(self, task: str) -> str:
        """Store a job with an image; return its id."""
        image, kind = (DATA / "seven.png").read_bytes(), {"Content-Type": "image/png"}
        return (await self.ask("POST", f"/v2/models/{task}/jobs", data=image, headers=kind))["id"]

    async def put_letters(self, task: str, reasons: Sequence[str]) -> None:
        """Write a dead letter of a task for each reason."""
        async with Producer(find_kafka(self.cli.home), "test") as producer:
            for number, reason in enumerate(reasons):
                headers = ((h.ID, b"letter-%d" % number), (h.TASK, task.encode()))
                record = Record(task_topic(task), 0, number, 0, 0, b"k", b"<b>payload</b>\xff", headers)
                await (await publish_dead_letter(producer, record, reason))

    async def request_registration(self, model: str, task: str) -> str:
        """Request the registration of a small model that takes tensors; return its id."""
        content = (DATA / "digits_linear.onnx").read_bytes()
        upload = sha256(content).hexdigest()
        await self.ask("PUT", f"/v1/uploads/{upload}", data=content)
        file = {"name": "digits_linear.onnx", "upload": upload}
        asked = {"name": model, "task": task, "file": file, "accuracy": 0.9, "variants": ["onnx-fp32"], "max_batch": 2}
        return (await self.ask("POST", "/v1/registrations", json=asked))["id"]

    async def registered(self, registration: str) -> None:
        """Wait until a registration has succeeded."""
        path = f"/v1/registrations/{registration}"
        shown = await read_until(lambda: self.ask("GET", path), lambda one: one["finished_at"] is not None, UP_S)
        assert not shown["error"], shown


@dataclass(frozen=True)
class Visitor(BrowserWindow):
    """A window of the browser at a system."""

    site: ConsoleSite = field(kw_only=True)

    async def sign_in(self, key: str, path: str = "/console") -> None:
        """Sign in by a key, and arrive at a page."""
        await self.open(path)
        await self.page.get_by_label("API key").fill(key)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.page.wait_for_url(f"**{path}")


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser() -> AsyncGenerator[Browser]:
    async with opened_browser() as browser:
        yield browser


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
    """Open a window at the system while the context is open; errors of the browser fail the test."""
    async with opened_window(browser, site.url, **options) as one:
        yield Visitor(one.url, one.page, one.context, one.errors, one.expected, site=site)


@pytest_asyncio.fixture(loop_scope="package")
async def visitor(browser: Browser, site: ConsoleSite) -> AsyncGenerator[Visitor]:
    async with visiting(browser, site) as one:
        yield one


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def session(browser: Browser, site: ConsoleSite) -> StorageState:
    """Cookies of a signed-in administrator; to sign in takes the browser longer than most tests."""
    async with visiting(browser, site) as one:
        await one.sign_in(site.admin)
        return await one.context.storage_state()


@pytest_asyncio.fixture(loop_scope="package")
async def administrator(browser: Browser, site: ConsoleSite, session: StorageState) -> AsyncGenerator[Visitor]:
    async with visiting(browser, site, storage_state=session) as one:
        yield one


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


class TensorTask(NamedTuple):
    """A task that takes tensors, with one model that was registered from an upload."""

    task: str
    model: str
    registration: str


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def tensor_task(site: ConsoleSite) -> TensorTask:
    word = uuid4().hex[:6]
    task, model = f"digits-{word}", f"linear-{word}"
    registration = await site.request_registration(model, task)
    await site.registered(registration)
    return TensorTask(task, model, registration)
