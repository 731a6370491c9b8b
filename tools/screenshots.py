"""Takes the screenshots in `docs/console`: `make screenshots`, for some of them `SHOTS="jobs scale"`.

Starts a guarded system with the zoo and an encoder of sentences, sends queries of several needs to all tasks, keeps
jobs and batches, writes a dead letter, does some acts of an administrator, and photographs each page in Debian's
Chromium under this load, and the output of `infaas explain`. Takes ten minutes. The encoder is built from the zoo's own
MiniLM, so nothing is downloaded.
"""

import asyncio
import io
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import numpy as np
from openai import AsyncOpenAI
from PIL import Image
from playwright.async_api import Page, async_playwright
from rich.console import Console
from rich.text import Text

from bench.core.system import infaas, running_at
from broker.dead_letters.letter import publish_dead_letter
from broker.kafka.types import Record
from broker.producing.producer import Producer
from infaas.cli.connect import find_kafka
from infaas.client.client import InfaasClient, QueryOptions
from schemas import headers as h
from schemas.errors import OperatorError, QueryError
from schemas.topics import task_topic
from zoo.minilm import build_sentence_encoder, unpack
from zoo.samples import DATA, labelled

FOLDER: Final = Path(__file__).parents[1] / "docs" / "console"
_LOAD_S: Final = 150.0
_READY_S: Final = 300.0
_VARIED_S: Final = 150.0
_COLOURS: Final = 96
"""Number of colours of a screenshot: pages have few, and the files shrink to a third."""
_VARIANTS: Final = 4
_WIDTH: Final = 1200
_MOST_HEIGHT: Final = 3000
_TASKS: Final = ("sentiment-text", "mnist-image", "digits", "mnist", "sentiment")
_CLIENTS: Final = 3
"""Clients of each task that ask one query after another."""
_JOBS: Final = 400
_EMBEDDINGS: Final = "sentences"
"""Task of the batches."""
_DEPTH: Final = 6
_UPLOADED: Final = "uploaded-mlp"
"""Model that is registered through the gateway, and removed again."""
_LINES: Final = (40, 4000)
"""Lines of the batch that has ended, and of the one that is computed when its page is photographed."""


_ACTS: Final[tuple[tuple[str, str, dict[str, int]], ...]] = (
    ("POST", "pause", {}),
    ("POST", "resume", {}),
    ("PUT", "pins/hardware/cpu", {"minimum": 1, "maximum": 2}),
    ("PUT", "pins/task/digits", {"minimum": 1, "maximum": 2}),
    ("DELETE", "pins/hardware/cpu", {}),
)
"""Acts of an administrator: method, path and fields."""
_EXPLAIN: Final = ("explain", "mnist-image", "--latency-ms=1000", "--min-accuracy=0.95")
_COLUMNS: Final = 105


class GuardedSystem(NamedTuple):
    """System that is photographed."""

    home: Path
    gateway: str
    key: str
    """Key of an administrator."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the administrator's requests."""
        return {"Authorization": f"Bearer {self.key}"}

    def session(self) -> aiohttp.ClientSession:
        """Return a session of the administrator."""
        return aiohttp.ClientSession(headers=self.headers)


class Shot(NamedTuple):
    """Screenshot to take."""

    name: str
    path: str
    """Address, with names of `_furnish` in braces."""
    dark: bool = False
    stranger: bool = False
    """True for a page that is seen before the sign-in."""


_SHOTS: Final = (
    Shot("sign-in", "/console", stranger=True),
    Shot("overview", "/console"),
    Shot("task", "/console/tasks/mnist-image"),
    Shot("models", "/console/models"),
    Shot("model", "/console/models/mnist-mlp-image"),
    Shot("registration", "/console/registrations/{registration}"),
    Shot("removal-plan", "/console/removal-plan?name=mnist-mlp-image"),
    Shot("removal", "/console/removals/{removal}"),
    Shot("scale", "/console/scale", dark=True),
    Shot("scale-explanation", "/console/scale/explanation?about=mnist-mlp-image.onnx-fp32.cpu"),
    Shot("jobs", "/console/jobs"),
    Shot("job", "/console/jobs/{job}"),
    Shot("dead-letters", "/console/dead-letters"),
    Shot("dead-letter", "/console/dead-letters/{letter}"),
    Shot("keys", "/console/keys"),
    Shot("tenants", "/console/tenants"),
    Shot("tenant", "/console/tenants/acme"),
    Shot("audit", "/console/audit"),
)
_TERMINAL: Final = "explain"
"""Screenshot of a command."""


async def _main(names: Collection[str]) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise OperatorError("screenshots need Debian's browser: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="infaas-screenshots-") as folder:
        async with _system(Path(folder) / "home") as site:
            found = await _furnish(site)
            with suppress(TimeoutError):  # pages with more variants say more
                await _until_variants(site, "mnist-image")
            async with asyncio.TaskGroup() as tasks:
                load = [tasks.create_task(_load(site, task), name=task) for task in _TASKS for _ in range(_CLIENTS)]
                load.append(tasks.create_task(_offline_load(site), name="jobs"))
                await asyncio.sleep(_LOAD_S)
                await _photograph(chromium, site, found, names)
                for one in load:
                    one.cancel()


@asynccontextmanager
async def _system(home: Path) -> AsyncGenerator[GuardedSystem]:
    """Run a guarded system with the zoo while the context is open."""
    async with running_at(home, "apache", flags=("--register-zoo", "--auth")) as system:
        key: dict[str, Any] = json.loads(await infaas(home, "keys", "create", "--role=admin", "--json"))
        site = GuardedSystem(home, system.gateway, key["key"])
        async with asyncio.timeout(_READY_S):
            for task in _TASKS:
                await _until_ready(site, task)
        yield site


async def _until_ready(site: GuardedSystem, task: str) -> None:
    async with site.session() as http:
        while True:
            with suppress(aiohttp.ClientError):
                async with http.get(f"{site.gateway}/v2/models/{task}/ready") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(1.0)


async def _until_variants(site: GuardedSystem, task: str) -> None:
    """Wait until several variants of a task are ready."""
    async with asyncio.timeout(_VARIED_S), site.session() as http:
        while True:
            listed: list[dict[str, Any]] = await _get(http, f"{site.gateway}/v1/variants?task={task}")
            if sum(one["variant"]["state"] == "ready" for one in listed) >= _VARIANTS:
                return
            await asyncio.sleep(2.0)


async def _get(http: aiohttp.ClientSession, url: str) -> Any:
    async with http.get(url) as answer:
        answer.raise_for_status()
        return await answer.json()


async def _furnish(site: GuardedSystem) -> dict[str, str]:
    """Fill the pages; return the names in their addresses."""
    await _register_encoder(site)
    await _create_batch(site, _LINES[0])
    await infaas(site.home, "keys", "create", "--tenant=acme", "--per-second=50", "--note=the shop's web site")
    await infaas(site.home, "tenants", "create", "acme", "--kafka-user=acme", "--scram")
    async with site.session() as http:
        job = await _keep_jobs(http, site, 12)
        for method, path, fields in _ACTS:
            async with http.request(method, f"{site.gateway}/v1/scale/{path}", json=fields) as answer:
                answer.raise_for_status()
        async with Producer(find_kafka(site.home), "screenshots") as producer:
            headers = ((h.ID, b"query-17"), (h.TASK, b"digits"))
            record = Record(task_topic("digits"), 0, 17, 0, 0, b"k", b'{"inputs": [{"name": "x", "shape": [1', headers)
            await (await publish_dead_letter(producer, record, "the body is not JSON: it ends too early"))
        letters = await _get(http, f"{site.gateway}/v1/dead-letters")
        registration = await _registration(http, site)
        async with http.post(f"{site.gateway}/v1/removals", json={"name": _UPLOADED, "force": True}) as answer:
            answer.raise_for_status()
            removal = (await answer.json())["id"]
    return {
        "letter": str(letters[-1]["letter"]), "job": job, "registration": registration, "removal": removal,
    }  # fmt: skip


async def _registration(http: aiohttp.ClientSession, site: GuardedSystem) -> str:
    """Register a model through the gateway, as from another machine; return the id when it has ended."""
    words = ("register", str(DATA / "digits_mlp.onnx"), f"--name={_UPLOADED}", "--task=digits", "--accuracy=0.9")
    await infaas(site.home, *words, INFAAS_URL=site.gateway, INFAAS_KEY=site.key)
    return str((await _get(http, f"{site.gateway}/v1/registrations"))[0]["id"])


async def _register_encoder(site: GuardedSystem) -> None:
    """Register an encoder of sentences, which is measured by the vectors of its own FP32 variant."""
    folder = site.home.parent
    model, texts = folder / "sentence-minilm.onnx", folder / "texts.npz"
    await asyncio.to_thread(build_sentence_encoder, unpack(_DEPTH), _DEPTH, model)
    rows = labelled("sentiment-text")[0]["text"][:64]
    np.savez(texts, allow_pickle=False, text=rows.astype("S"))
    await infaas(
        site.home, "register", str(model), f"--task={_EMBEDDINGS}", f"--tokenizer={DATA / 'tokenizer.json'}",
        "--measure=cosine", "--variant=onnx-fp32", f"--calibration={texts}",
    )  # fmt: skip


async def _create_batch(site: GuardedSystem, lines: int) -> None:
    """Create a batch of OpenAI's API that computes vectors of texts."""
    texts = [text.decode() for text in labelled("sentiment-text")[0]["text"]]
    rows = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/embeddings",
         "body": {"model": _EMBEDDINGS, "input": texts[number % len(texts)]}}
        for number in range(lines)
    ]  # fmt: skip
    async with AsyncOpenAI(base_url=f"{site.gateway}/v1", api_key=site.key) as client:
        content = "\n".join(map(json.dumps, rows)).encode()
        file = await client.files.create(file=("texts.jsonl", content), purpose="batch")
        await client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")


async def _keep_jobs(http: aiohttp.ClientSession, site: GuardedSystem, number: int) -> str:
    """Keep jobs for images, and half as many for texts; return the id of the last one."""
    image, job = (DATA / "seven.png").read_bytes(), ""
    for place in range(number):
        task, data, form = ("sentiment-text", b"a wonderful film", "text/plain") if place % 3 == 2 else (
            "mnist-image", image, "image/png")  # fmt: skip
        url = f"{site.gateway}/v2/models/{task}/jobs"
        async with http.post(url, data=data, headers={"Content-Type": form}) as answer:
            answer.raise_for_status()
            job = (await answer.json())["id"]
    return job


async def _offline_load(site: GuardedSystem) -> None:
    """Keep three jobs a second until cancelled."""
    async with site.session() as http:
        while True:
            await _keep_jobs(http, site, 3)
            await asyncio.sleep(1.0)


async def _load(site: GuardedSystem, task: str) -> None:
    """Send queries of several needs until cancelled, more and more of them."""
    inputs, _ = labelled(task)
    rows, began = len(next(iter(inputs.values()))), asyncio.get_running_loop().time()
    needs: tuple[QueryOptions, ...] = (
        QueryOptions(latency_ms=150.0, min_accuracy=0.7),
        QueryOptions(latency_ms=500.0, min_accuracy=0.9),
        QueryOptions(latency_ms=250.0, max_cost=2e-6),
    )
    async with InfaasClient(gateway=site.gateway, key=site.key) as client:
        for number in count():
            row = {name: values[number % rows : number % rows + 1] for name, values in inputs.items()}
            with suppress(QueryError):
                await client.infer(task, row, **needs[number % 7 % 3])
            left = max(1.0 - (asyncio.get_running_loop().time() - began) / _LOAD_S, 0.0)
            await asyncio.sleep(0.02 + 0.1 * left)


async def _photograph(chromium: str, site: GuardedSystem, found: Mapping[str, str], names: Collection[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for shot in _SHOTS:
            if shot.name in names:
                page = await browser.new_page(
                    viewport={"width": _WIDTH, "height": 800},
                    color_scheme="dark" if shot.dark else "light",
                    extra_http_headers={} if shot.stranger else site.headers,
                )
                await _open(page, site, shot, found)
                _save(await page.screenshot(full_page=True), FOLDER / f"{shot.name}.png")
                await page.close()
        if _TERMINAL in names:
            page = await browser.new_page()
            await page.set_content(await _terminal(site))
            _save(await page.locator("svg").screenshot(), FOLDER / f"{_TERMINAL}.png")
        await browser.close()


async def _open(page: Page, site: GuardedSystem, shot: Shot, found: Mapping[str, str]) -> None:
    """Open the page of a screenshot, and wait for what it shows."""
    if shot.name == "jobs":
        await _create_batch(site, _LINES[1])
        async with site.session() as http:
            await _keep_jobs(http, site, _JOBS)
    await page.goto(site.gateway + shot.path.format(**found))
    if shot.name == "task":
        await _ask(page)
    await page.wait_for_timeout(2500)  # an update, and the plots


async def _terminal(site: GuardedSystem) -> str:
    """Return the output of `infaas explain` as an SVG."""
    output = await infaas(site.home, *_EXPLAIN, FORCE_COLOR="1", COLUMNS=str(_COLUMNS))
    terminal = Console(record=True, width=_COLUMNS, file=io.StringIO())
    terminal.print(Text.from_ansi(output))
    return terminal.export_svg(title=f"infaas {' '.join(_EXPLAIN)}")


async def _ask(page: Page) -> None:
    await page.locator("input[type=file]").set_input_files(DATA / "seven.png")
    await page.get_by_label("Latency, ms").fill("100")
    await page.get_by_role("button", name="Ask").click()
    await page.locator("#answer table").wait_for()


def _save(content: bytes, path: Path) -> None:
    """Save a screenshot with few colours, without its end if it is very long."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image = image.crop((0, 0, image.width, min(image.height, _MOST_HEIGHT)))
    image.quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:] or [*(shot.name for shot in _SHOTS), _TERMINAL]))
