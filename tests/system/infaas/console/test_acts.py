"""Tests of the console's acts: each changes the system as the command of the same name, and is recorded."""

from pathlib import Path
from uuid import uuid4

import aiohttp
import numpy as np
import pytest
from playwright.async_api import Browser, expect

from broker.dead_letters.letter import publish_dead_letter
from broker.kafka.types import Record
from broker.producing.producer import Producer
from infaas.cli.connect import find_kafka
from schemas import headers as h
from schemas.topics import task_topic
from tests.processes import suspended
from tests.system.infaas.console.conftest import ConsoleSite, ImageTask, Visitor, visiting
from tests.waiting import read_until
from zoo.samples import DATA, TOKENIZER, labelled

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_scaling_is_paused_resumed_and_pinned(administrator: Visitor, image_task: ImageTask) -> None:
    page = administrator.page
    await administrator.open("/console/scale")
    await page.get_by_role("button", name="Pause scaling").click()
    await page.get_by_role("button", name="Resume scaling").click()  # an update brought the button
    await expect(page.get_by_role("button", name="Pause scaling")).to_be_visible()
    await page.get_by_label("Name").fill(image_task.variant)
    await page.get_by_label("Of").select_option("variant")
    await page.get_by_label("At least").fill("1")
    await page.get_by_role("button", name="Pin", exact=True).click()
    await expect(page.locator("#outcome")).to_contain_text(f"Pinned variant {image_task.variant}: at least 1.")
    await page.get_by_role("button", name=f"Unpin {image_task.variant}").click()
    await expect(page.locator("#outcome")).to_contain_text("Removed the pin")
    await page.get_by_role("button", name="Pin", exact=True).click()
    await page.get_by_label("Name").fill("nothing")
    await page.get_by_role("button", name="Pin", exact=True).click()
    await expect(page.locator("#outcome")).to_contain_text("Not done: there is no variant 'nothing'")
    await administrator.open("/console/audit")
    for verb in ("pause", "resume", "pin", "unpin"):
        await expect(page.get_by_role("rowheader", name=verb, exact=True).first).to_be_visible()


async def test_keys_are_created_limited_and_revoked(administrator: Visitor) -> None:
    page, tenant = administrator.page, f"t-{uuid4().hex[:6]}"
    await administrator.open("/console/keys")
    await page.get_by_label("Tenant").fill(tenant)
    await page.get_by_label("Purpose").fill("a test")
    await page.get_by_role("button", name="Create").click()
    key = await page.locator("#outcome .secret").inner_text()
    key_id = key.split("_")[1]
    listed = await administrator.site.cli.json("keys", "list", f"--tenant={tenant}")
    assert [(one["id"], one["note"]) for one in listed] == [(key_id, "a test")]
    await page.get_by_label("Key", exact=True).fill(key_id)
    await page.get_by_label("Queries/s at most").last.fill("5")
    await page.get_by_role("button", name="Set").click()
    await expect(page.locator("#outcome")).to_contain_text("at most 5 queries a second")
    await page.get_by_role("button", name=f"Revoke {key_id}").click()
    await expect(page.locator("#outcome")).to_contain_text(f"Revoked key {key_id}.")
    await expect(page.get_by_role("button", name=f"Revoke {key_id}")).to_have_count(0)


async def test_tenant_is_created_and_removed(administrator: Visitor) -> None:
    page, tenant = administrator.page, f"t-{uuid4().hex[:6]}"
    await administrator.open("/console/tenants")
    await page.get_by_label("Name").fill(tenant)
    await page.get_by_role("button", name="Create").click()
    await page.get_by_role("link", name="Show its topics").click()
    await expect(page.locator(".facts")).to_contain_text(f"infaas.ingress.{tenant}")
    await administrator.check()
    await page.get_by_label("results stay readable").fill("0")
    await page.get_by_role("button", name="Remove").click()
    await expect(page.locator("#outcome")).to_contain_text(f"Removed tenant {tenant}")


async def test_dead_letters_are_shown_replayed_and_dropped(administrator: Visitor, image_task: ImageTask) -> None:
    page, task = administrator.page, image_task.task
    async with Producer(find_kafka(administrator.site.cli.home), "test") as producer:
        for number in range(2):
            headers = ((h.ID, b"letter-%d" % number), (h.TASK, task.encode()))
            record = Record(task_topic(task), 0, number, 0, 0, b"k", b"<b>payload</b>\xff", headers)
            await (await publish_dead_letter(producer, record, f"reason {number}"))
    await administrator.open(f"/console/dead-letters?task={task}")
    await administrator.check()
    letter = page.get_by_role("row", name="reason 0").get_by_role("link")
    await letter.click()
    await expect(page.locator("pre")).to_have_text("<b>payload</b>\\xff")
    await administrator.check()
    await page.get_by_role("button", name="Replay").click()
    await expect(page.locator("#outcome")).to_contain_text("Replayed 1 of 1.")
    await administrator.open(f"/console/dead-letters?task={task}&reason=reason+1")
    await page.get_by_role("button", name="Drop all that match").click()
    await expect(page.locator("#outcome")).to_contain_text("Dropped 1.")
    await page.get_by_role("link", name="Reload the list").click()
    await expect(page.get_by_role("row", name="reason 1")).to_have_count(0)


async def test_job_is_followed_and_cancelled(administrator: Visitor, image_task: ImageTask) -> None:
    page, site = administrator.page, administrator.site
    jobs = f"{site.url}/v2/models/{image_task.task}/jobs"
    headers = {"Authorization": f"Bearer {site.admin}", "Content-Type": "image/png"}
    image = (DATA / "seven.png").read_bytes()
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.post(jobs, data=image) as kept:
            done = (await kept.json())["id"]
        await administrator.open(f"/console/jobs/{done}")
        await expect(page.locator("#live-job")).to_contain_text("succeeded")
        await expect(page.locator("pre")).to_contain_text('"outputs"')
        await administrator.check()
        state = await site.cli.state()
        async with suspended(state["services"]["jobs"]["pid"]), http.post(jobs, data=image) as kept:
            queued = (await kept.json())["id"]
            await administrator.open(f"/console/jobs?model={image_task.task}")
            await page.get_by_role("button", name=f"Cancel {queued}").click()
            await expect(page.locator("#outcome")).to_contain_text("Cancelled 1 of 1 jobs.")
            await expect(page.get_by_role("button", name=f"Cancel {queued}")).to_have_count(0)
    await administrator.check()


async def test_batch_that_failed_shows_its_error(administrator: Visitor) -> None:
    site = administrator.site
    form = aiohttp.FormData({"purpose": "batch"})
    form.add_field("file", b"not a line\n", filename="lines.jsonl")
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {site.admin}"}) as http:
        async with http.post(f"{site.url}/v1/files", data=form) as answer:
            file = (await answer.json())["id"]
        asked = {"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"}
        async with http.post(f"{site.url}/v1/batches", json=asked) as answer:
            batch = (await answer.json())["id"]
    await administrator.open("/console/jobs")
    row = administrator.page.get_by_role("row", name=batch[:20])
    await expect(row).to_contain_text("failed")


async def test_model_is_uploaded_registered_and_unregistered(
    browser: Browser, site: ConsoleSite, tmp_path: Path
) -> None:
    """A publisher uploads a model of texts, follows its registration, asks it, and unregisters it."""
    word = uuid4().hex[:6]
    inputs, labels = labelled("sentiment-text")
    texts = {name: rows[:300].astype("S") for name, rows in inputs.items()}
    np.savez(tmp_path / "texts.npz", allow_pickle=False, label=labels[:300], **texts)
    async with visiting(browser, site) as publisher:
        page = publisher.page
        page.on("dialog", lambda dialog: dialog.accept())
        await publisher.sign_in(site.publisher, "/console/models")
        await page.get_by_label("Model file").set_input_files(DATA / "sent_fasttext.onnx")
        await page.get_by_label("Name", exact=True).fill(f"texts-{word}")
        await page.get_by_label("Task", exact=True).fill(f"mood-{word}")
        await page.get_by_label("Labelled data").set_input_files(tmp_path / "texts.npz")
        await page.get_by_text("Texts, images and other options").click()
        await page.get_by_label("tokenizer.json").set_input_files(TOKENIZER)
        await page.get_by_label("Names of classes").set_input_files(DATA / "sentiment_classes.txt")
        await page.get_by_label("Variants, e.g.").fill("onnx-fp32")
        await page.get_by_label("Largest batch").fill("2")
        await publisher.check()
        await page.get_by_role("button", name="Register").click()
        await page.get_by_role("link", name="Follow its progress").click()
        await expect(page.locator("#live-registration")).to_contain_text("Ended at", timeout=60_000)
        await publisher.check()
        await page.get_by_role("link", name="To the model").click()
        await expect(page.locator("#live-variants")).to_contain_text("ready")
        await page.get_by_role("link", name=f"mood-{word}").click()
        await page.get_by_label("text", exact=True).fill("What a wonderful film")
        await page.get_by_role("button", name="Ask").click()
        await expect(page.locator("#answer")).to_contain_text("positive", timeout=60_000)
        await publisher.open(f"/console/removal-plan?name=mood-{word}")
        await expect(page.locator(".facts")).to_contain_text(f"texts-{word}.onnx-fp32.cpu")
        if await page.get_by_label("Remove it although it is used").count():
            await page.get_by_label("Remove it although it is used").check()
        await page.get_by_role("button", name="Unregister").click()
        await page.get_by_role("link", name="Follow it").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"Removal of mood-{word}")
        await expect(page.locator("#live-removal progress")).to_be_visible()


async def test_version_is_tried_and_rolled_back(administrator: Visitor, image_task: ImageTask) -> None:
    page, cli = administrator.page, administrator.site.cli
    words = (f"--name={image_task.model}", "--image=28x28:grey", "--top=1", "--hold")
    await cli.register("mnist_linear.onnx", *words, task=image_task.task, data="mnist-image", most=300)
    await administrator.open(f"/console/models/{image_task.model}")
    await page.get_by_label("Version", exact=True).select_option("2")
    await page.get_by_label("Share that it answers").fill("0.25")
    await page.get_by_role("button", name="Roll out").click()
    await expect(page.locator("#outcome")).to_contain_text("Version 2 answers 25%, copies 0%.")
    await expect(page.locator("#live-rollout")).to_contain_text("on trial")
    await administrator.check()
    await page.get_by_role("button", name="Roll back").click()
    await expect(page.locator("#outcome")).to_contain_text(f"Version 1 of {image_task.model} serves.")

    async def rollout() -> float:
        return (await cli.json("history", image_task.model))["rollout"]["share"]

    assert await read_until(rollout, lambda share: share == 0) == 0
