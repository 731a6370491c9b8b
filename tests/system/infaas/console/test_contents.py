"""Tests of the contents of pages: the overview, the timeline of scale, refused variants, and a tenant's own objects."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import pytest
from playwright.async_api import Browser, Page, expect

from infaas.cli.output import EXIT_PARTIAL
from tests.system.infaas.conftest import Cli
from tests.system.infaas.console.conftest import ConsoleSite, ImageTask, Visitor, visiting
from tests.waiting import read_until
from zoo.samples import DATA

pytestmark = [pytest.mark.needs_browser, pytest.mark.asyncio(loop_scope="package")]

LINEAR = (str(DATA / "digits_linear.onnx"), "--accuracy=0.9", "--max-batch=2", "--variant=onnx-fp32")
"""Arguments of `infaas register` for a model that is registered in seconds."""


async def test_overview_shows_load_workers_and_decisions(administrator: Visitor, image_task: ImageTask) -> None:
    page, site, (task, _, variant) = administrator.page, administrator.site, image_task
    needs = {"infaas-max-cost": "0.25", "infaas-min-accuracy": "0.5"}
    assert [await ask(site, task, "infer", needs) for _ in range(6)] == [200] * 6
    await administrator.open("/console")
    await shows(page, "workers", variant, {
        "Hardware": "^cpu$", "State": "^alive$", "Slots": r"^\d+$", "Busy": r"^\d+\.\d%$", "CPU": r"^\d+\.\d%$",
        "MiB used": r"^[\d,]+$", "of": r"^[\d,]+$", "Serves": re.escape(variant),
    })  # fmt: skip
    await site.cli.json("scale", "pin", "variant", variant, "--max=0")
    try:
        await read_until(lambda: serving(site), lambda variants: variant not in variants)
        hurried = {"infaas-latency-ms": "20"}
        await read_until(lambda: ask(site, task, "infer", hurried), lambda status: status == 503)
        assert await ask(site, task, "jobs") == 202  # waits for an instance
        await shows(page, "tasks", task, {
            "Queries/s": r"^(?!0\.0$)[\d.]+$", "In time": r"^\d\d?\.\d%$", "Refused": r"^[1-9]\d*$",
            "p50 / p99 ms": r"^[\d.,]+ / [\d.,]+$", "Accuracy given / asked": r"^0\.\d{3} / 0\.[5-9]\d{2}$",
            "Cost/1000 given / asked": r"^[\d.]+ .?USD / ?0\.25 USD$", "Waiting / oldest s": r"^[1-9]\d* / \d+\.\d$",
            "Answered by": rf"{re.escape(variant)} [1-9]\d*%",
        })  # fmt: skip
        [decision] = await site.cli.json("scale", "history", "--latest=1")
        shown = page.locator("#live-decisions li").filter(has_text=decision["reason"][:300])
        await expect(shown.locator("strong")).to_have_text(decision["action"])
    finally:
        await site.cli.json("scale", "unpin", "variant", variant)
    await shows(page, "tasks", task, {"Waiting / oldest s": "^0 / -$"})


async def serving(site: ConsoleSite) -> list[str]:
    """Return the variants that have an instance."""
    return [one["variant"] for one in (await site.cli.json("scale", "status"))["instances"]]


async def ask(site: ConsoleSite, task: str, route: str, needs: Mapping[str, str] = {}) -> int:
    """Send a query with an image; return the status of the answer."""
    headers = {"Authorization": f"Bearer {site.admin}", "Content-Type": "image/png", **needs}
    image, url = (DATA / "seven.png").read_bytes(), f"{site.url}/v2/models/{task}/{route}"
    async with aiohttp.ClientSession(headers=headers) as http, http.post(url, data=image) as answer:
        return answer.status


async def shows(page: Page, section: str, row: str, cells: Mapping[str, str]) -> None:
    """Wait until cells of the row that contains a text match the patterns of their columns."""
    columns = await page.locator(f"#live-{section} thead th").all_inner_texts()
    found = page.locator(f"#live-{section} tbody tr").filter(has_text=row).first.locator("th, td")
    for column, pattern in cells.items():
        await expect(found.nth(columns.index(column))).to_have_text(re.compile(pattern))


async def test_scale_shows_timeline_and_decisions_with_inputs(administrator: Visitor, image_task: ImageTask) -> None:
    page, cli, variant = administrator.page, administrator.site.cli, image_task.variant
    await cli.json("scale", "pin", "variant", variant, "--min=1")
    try:
        placed = await read_until(lambda: explained(cli, variant), lambda found: found["policy"] != "")
        await administrator.open("/console/scale")
        await expect(page.locator("#scale-plot canvas")).to_be_visible(timeout=120_000)  # there is a sample a minute
        pinned = page.locator("#live-decisions li").filter(has_text=variant).filter(has_text="at least 1").first
        await expect(pinned.locator("strong")).to_have_text("pin")
        await expect(pinned.locator("code")).to_be_hidden()
        await pinned.get_by_text("Inputs").click()
        await expect(pinned.locator("code")).to_contain_text('"minimum":1')
        await pinned.get_by_role("link", name=variant).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"Scale of {variant}")
        section = page.locator("section").filter(has_text=placed["reason"]).last
        await expect(section.get_by_role("heading", level=2)).to_contain_text(placed["action"])
        assert json.loads(await section.locator("pre").first.inner_text()) == placed["inputs"]
        await section.get_by_text("Inputs of the whole plan").click()
        await expect(section.locator("details pre")).to_contain_text(next(iter(placed["explanation"])))
        await administrator.check()
    finally:
        await cli.json("scale", "unpin", "variant", variant)


async def explained(cli: Cli, variant: str) -> Any:
    """Return the first decision of the policy about a variant, which has placed it."""
    return (await cli.json("scale", "explain", variant))[-1]


async def test_refused_variant_is_shown_with_its_reason(administrator: Visitor) -> None:
    page, word = administrator.page, uuid4().hex[:6]
    task, model = f"tensors-{word}", f"linear-{word}"
    words = (*LINEAR, "--variant=onnx-int8static", f"--name={model}", f"--task={task}")  # nothing to calibrate with
    code, _, told = await administrator.site.cli.run("register", *words)
    assert code == EXIT_PARTIAL, told
    await administrator.open("/console/models")
    await shows(page, "models", model, {"Ready": "^1$", "Refused": "^1$"})
    await page.get_by_role("link", name=model).click()
    variants = page.locator("#live-variants")
    await expect(variants.get_by_role("row", name=f"{model}.onnx-fp32.cpu").locator(".state")).to_have_text("ready")
    refused = variants.get_by_role("row", name=f"{model}.onnx-int8static.cpu")
    await expect(refused.locator(".state")).to_have_text("refused")
    await expect(refused).to_contain_text("no inputs to calibrate with: give a validation or a calibration file")
    await administrator.check()


class Owned(NamedTuple):
    """Objects of a tenant: names and ids as pages show them, by the address of the page."""

    shown: dict[str, tuple[str, ...]]
    addresses: tuple[str, ...]
    """Pages of these objects."""


async def owned_by(site: ConsoleSite, key: str) -> Owned:
    """Have the owner of a key register a model, and send a job and a batch."""
    word = uuid4().hex[:6]
    task, model = f"own-{word}", f"own-linear-{word}"
    remote = {"INFAAS_URL": site.url, "INFAAS_KEY": key}
    await site.cli.json("register", *LINEAR, f"--name={model}", f"--task={task}", **remote)
    [registration] = [one for one in await site.cli.json("registrations", "list", **remote) if one["name"] == model]
    form = aiohttp.FormData({"purpose": "batch"})
    form.add_field("file", b"not a line\n", filename="lines.jsonl")
    query = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}]}
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(site.url, headers=headers, raise_for_status=True) as http:
        async with http.post(f"/v2/models/{task}/jobs", json=query) as answer:
            job = (await answer.json())["id"]
        async with http.post("/v1/files", data=form) as answer:
            asked = {"input_file_id": (await answer.json())["id"], "endpoint": "/v1/embeddings"}
        async with http.post("/v1/batches", json=asked | {"completion_window": "24h"}) as answer:
            batch = (await answer.json())["id"]
    shown = {
        "/console": (task,),
        "/console/models": (task, model, f"/console/registrations/{registration['id']}"),
        "/console/jobs": (task, f"/console/jobs/{job}", batch[:20]),
    }
    pages = (f"tasks/{task}", f"models/{model}", f"registrations/{registration['id']}", f"jobs/{job}")
    return Owned(shown, tuple(f"/console/{page}" for page in (*pages, f"removal-plan?name={model}")))


async def test_objects_of_tenant_are_absent_for_another_one(browser: Browser, site: ConsoleSite) -> None:
    owned = await owned_by(site, site.publisher)
    other = await site.cli.json("keys", "create", f"--tenant=third-{uuid4().hex[:6]}", "--role=publish")
    for key, is_owner in ((site.publisher, True), (other["key"], False)):
        async with visiting(browser, site) as visitor:
            await visitor.sign_in(key)
            for path, words in owned.shown.items():
                await visitor.open(path)
                await visitor.updated()  # what an update adds is as absent
                html = await visitor.page.locator("main").inner_html()
                assert [word for word in words if (word in html) is not is_owner] == []
            requests = visitor.context.request  # with the session's cookie
            answers = [await requests.get(f"{site.url}{path}") for path in owned.addresses]
            assert [answer.status for answer in answers] == [200 if is_owner else 404] * len(owned.addresses)
