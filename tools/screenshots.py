"""Takes the screenshots of the console in `docs/console`: `make screenshots`, for some of them `SHOTS="jobs scale"`.

Starts a system with the zoo and an encoder of sentences, sends queries of several needs to all tasks, keeps jobs and
batches, writes a dead letter, does some acts of an administrator, and photographs each page in Debian's Chromium under
this load. Takes ten minutes. The encoder is built from the zoo's own MiniLM, so nothing is downloaded.
"""

import asyncio
import io
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import numpy as np
from openai import AsyncOpenAI
from PIL import Image
from playwright.async_api import Page, async_playwright

from broker.dead_letters.letter import publish_dead_letter
from broker.kafka.types import Record
from broker.producing.producer import Producer
from infaas.cli.connect import find_kafka
from infaas.client.client import InfaasClient, QueryOptions
from infaas.up.state import read_state
from process.sockets import LOOPBACK, free_port
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
_MOST_HEIGHT: Final = 2200
_TASKS: Final = ("sentiment-text", "mnist-image", "digits", "mnist", "sentiment")
_CLIENTS: Final = 3
"""Clients of each task that ask one query after another."""
_JOBS: Final = 400
_EMBEDDINGS: Final = "sentences"
"""Task of the batches."""
_DEPTH: Final = 6
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


class Shot(NamedTuple):
    """Screenshot to take."""

    name: str
    path: str
    dark: bool = False


_SHOTS: Final = (
    Shot("overview", "/console"),
    Shot("task", "/console/tasks/mnist-image"),
    Shot("models", "/console/models"),
    Shot("model", "/console/models/mnist-mlp-image"),
    Shot("scale", "/console/scale", dark=True),
    Shot("jobs", "/console/jobs"),
    Shot("dead-letter", "/console/dead-letters/{letter}"),
    Shot("audit", "/console/audit"),
)


async def _main(names: Collection[str]) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise OperatorError("screenshots need Debian's browser: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="infaas-screenshots-") as folder:
        home = Path(folder) / "home"
        async with _system(home) as gateway:
            letter = await _furnish(home, gateway)
            with suppress(TimeoutError):  # pages with more variants say more
                await _until_variants(gateway, "mnist-image")
            async with asyncio.TaskGroup() as tasks:
                load = [tasks.create_task(_load(gateway, task), name=task) for task in _TASKS for _ in range(_CLIENTS)]
                load.append(tasks.create_task(_offline_load(gateway), name="jobs"))
                await asyncio.sleep(_LOAD_S)
                await _photograph(chromium, gateway, letter, [shot for shot in _SHOTS if shot.name in names])
                for one in load:
                    one.cancel()


@asynccontextmanager
async def _system(home: Path) -> AsyncGenerator[str]:
    """Run a system with the zoo while the context is open; yield the gateway's address."""
    port = free_port()
    words = ("up", f"--home={home}", f"--gateway-port={port}", "--kafka-port=0", "--register-zoo")
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "infaas.cli.main", *words)
    gateway = f"http://{LOOPBACK}:{port}"
    try:
        async with asyncio.timeout(_READY_S):
            for task in _TASKS:
                await _until_ready(f"{gateway}/v2/models/{task}/ready")
        yield gateway
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _until_ready(url: str) -> None:
    async with aiohttp.ClientSession() as http:
        while True:
            with suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(1.0)


async def _until_variants(gateway: str, task: str) -> None:
    """Wait until several variants of a task are ready."""
    async with asyncio.timeout(_VARIED_S), aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{gateway}/v1/variants?task={task}") as answer:
                listed: list[dict[str, Any]] = await answer.json()
            if sum(one["variant"]["state"] == "ready" for one in listed) >= _VARIANTS:
                return
            await asyncio.sleep(2.0)


async def _furnish(home: Path, gateway: str) -> str:
    """Keep jobs and a batch, do acts of an administrator, and write a dead letter; return its id."""
    await _register_encoder(home)
    await _create_batch(gateway, _LINES[0])
    async with aiohttp.ClientSession() as http:
        await _keep_jobs(http, gateway, 12)
        for method, path, fields in _ACTS:
            async with http.request(method, f"{gateway}/v1/scale/{path}", json=fields) as answer:
                answer.raise_for_status()
        state = read_state(home)
        assert state is not None, "the system runs"
        async with Producer(find_kafka(home), "screenshots") as producer:
            headers = ((h.ID, b"query-17"), (h.TASK, b"digits"))
            record = Record(task_topic("digits"), 0, 17, 0, 0, b"k", b'{"inputs": [{"name": "x", "shape": [1', headers)
            await (await publish_dead_letter(producer, record, "the body is not JSON: it ends too early"))
        async with http.get(f"{gateway}/v1/dead-letters") as answer:
            letters: list[dict[str, Any]] = await answer.json()
    return str(letters[-1]["letter"])


async def _register_encoder(home: Path) -> None:
    """Register an encoder of sentences, which is measured by the vectors of its own FP32 variant."""
    folder = home.parent
    model, texts = folder / "sentence-minilm.onnx", folder / "texts.npz"
    await asyncio.to_thread(build_sentence_encoder, unpack(_DEPTH), _DEPTH, model)
    rows = labelled("sentiment-text")[0]["text"][:64]
    np.savez(texts, allow_pickle=False, text=rows.astype("S"))
    words = (
        f"--task={_EMBEDDINGS}",
        f"--tokenizer={DATA / 'tokenizer.json'}",
        "--measure=cosine",
        "--variant=onnx-fp32",
    )
    command = ("-m", "infaas.cli.main", "register", str(model), *words, f"--calibration={texts}", f"--home={home}")
    process = await asyncio.create_subprocess_exec(sys.executable, *command)
    async with asyncio.timeout(_READY_S):
        if await process.wait():
            raise OperatorError("the encoder of sentences was not registered")


async def _create_batch(gateway: str, lines: int) -> None:
    """Create a batch of OpenAI's API that computes vectors of texts."""
    texts = [text.decode() for text in labelled("sentiment-text")[0]["text"]]
    rows = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/embeddings",
         "body": {"model": _EMBEDDINGS, "input": texts[number % len(texts)]}}
        for number in range(lines)
    ]  # fmt: skip
    async with AsyncOpenAI(base_url=f"{gateway}/v1", api_key="me") as client:
        content = "\n".join(map(json.dumps, rows)).encode()
        file = await client.files.create(file=("texts.jsonl", content), purpose="batch")
        await client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")


async def _keep_jobs(http: aiohttp.ClientSession, gateway: str, number: int) -> None:
    """Keep jobs for images, and half as many for texts."""
    image = (DATA / "seven.png").read_bytes()
    for place in range(number):
        task, data, form = ("sentiment-text", b"a wonderful film", "text/plain") if place % 3 == 2 else (
            "mnist-image", image, "image/png")  # fmt: skip
        async with http.post(f"{gateway}/v2/models/{task}/jobs", data=data, headers={"Content-Type": form}) as answer:
            answer.raise_for_status()


async def _offline_load(gateway: str) -> None:
    """Keep three jobs a second until cancelled."""
    async with aiohttp.ClientSession() as http:
        while True:
            await _keep_jobs(http, gateway, 3)
            await asyncio.sleep(1.0)


async def _load(gateway: str, task: str) -> None:
    """Send queries of several needs until cancelled, more and more of them."""
    inputs, _ = labelled(task)
    rows, began = len(next(iter(inputs.values()))), asyncio.get_running_loop().time()
    needs: tuple[QueryOptions, ...] = (
        QueryOptions(latency_ms=150.0, min_accuracy=0.7),
        QueryOptions(latency_ms=500.0, min_accuracy=0.9),
        QueryOptions(latency_ms=250.0, max_cost=2e-6),
    )
    async with InfaasClient(gateway=gateway) as client:
        for number in count():
            row = {name: values[number % rows : number % rows + 1] for name, values in inputs.items()}
            with suppress(QueryError):
                await client.infer(task, row, **needs[number % 7 % 3])
            left = max(1.0 - (asyncio.get_running_loop().time() - began) / _LOAD_S, 0.0)
            await asyncio.sleep(0.02 + 0.1 * left)


async def _photograph(chromium: str, gateway: str, letter: str, shots: Iterable[Shot]) -> None:
    FOLDER.mkdir(exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for shot in shots:
            page = await browser.new_page(
                viewport={"width": _WIDTH, "height": 800}, color_scheme="dark" if shot.dark else "light"
            )
            if shot.name == "jobs":
                await _create_batch(gateway, _LINES[1])
                async with aiohttp.ClientSession() as http:
                    await _keep_jobs(http, gateway, _JOBS)
            await page.goto(gateway + shot.path.format(letter=letter))
            if shot.name == "task":
                await _ask(page)
            await page.wait_for_timeout(2500)  # an update, and the plots
            _save(await page.screenshot(full_page=True), FOLDER / f"{shot.name}.png")
            await page.close()
        await browser.close()


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
    asyncio.run(_main(sys.argv[1:] or [shot.name for shot in _SHOTS]))
