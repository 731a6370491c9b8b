"""Tests of the console's acts: each changes the system as the command of the same name, and is recorded."""

import asyncio
import json
import re
from pathlib import Path
from uuid import uuid4

import aiohttp
import numpy as np
import pytest
from playwright.async_api import Browser, expect

from infaas.cli.connect import find_database
from schemas.access import ANYONE
from schemas.jobs import NewJob
from schemas.openai import EMBEDDINGS
from schemas.rows.batches import LineReply
from store.batches import NewBatch, advance_batch, put_batch, start_batch
from store.jobs import put_jobs
from store.pool import open_pool
from tests.processes import suspended
from tests.system.infaas.conftest import UP_S
from tests.system.infaas.console.conftest import ConsoleSite, ImageTask, TensorTask, Visitor, visiting
from tests.waiting import read_until
from zoo.samples import DATA, TOKENIZER, labelled

pytestmark = [pytest.mark.needs_browser, pytest.mark.asyncio(loop_scope="package")]

PAUSE = "Pause scaling? Until it is resumed, load changes nothing; failed processes are still replaced."
PIN = "Set these bounds? Until they are removed, scaling stays within them, whatever the load is."
ALL = {"latest": "10000"}
STEP = re.compile(r"^running\s+\d of [1-9]\d*: .*\w")
"""State, progress and step of a registration that goes on."""


async def test_scaling_is_paused_resumed_and_pinned(administrator: Visitor, image_task: ImageTask) -> None:
    page, variant = administrator.page, image_task.variant
    await administrator.open("/console/scale")
    await administrator.submit("/console/scale/pause", "Pause scaling", confirm=PAUSE)
    resume = "Resume scaling"  # an update brings the button
    await administrator.submit("/console/scale/resume", resume, confirm="Resume scaling by load?")
    await expect(page.get_by_role("button", name="Pause scaling")).to_be_visible()
    await page.get_by_label("Name").fill(variant)
    await page.get_by_label("Of").select_option("variant")
    await page.get_by_label("At least").fill("1")
    await administrator.submit("/console/scale/pin", "Pin", confirm=PIN)
    await expect(page.locator("#outcome")).to_contain_text(f"Pinned variant {variant}: at least 1.")
    await administrator.submit("/console/scale/unpin", f"Unpin {variant}", confirm=f"Remove the pin of {variant}?")
    await expect(page.locator("#outcome")).to_contain_text("Removed the pin")
    administrator.expects("/console/scale/pin", "status of 404")
    await page.get_by_label("Name").fill("nothing")
    await administrator.submit("/console/scale/pin", "Pin", confirm=PIN)
    await expect(page.locator("#outcome")).to_contain_text("Not done: there is no variant 'nothing'")
    await administrator.open("/console/audit")
    for verb in ("pause", "resume", "pin", "unpin"):
        await expect(page.get_by_role("rowheader", name=verb, exact=True).first).to_be_visible()


async def test_dismissed_acts_change_nothing(administrator: Visitor, image_task: ImageTask) -> None:
    """The audit log has the act that is confirmed at last, and none of those dismissed before."""
    page, site, task = administrator.page, administrator.site, image_task.task
    await administrator.open("/console/scale")
    await page.get_by_label("Name").fill(task)
    await page.get_by_label("At least").fill("0")
    before = len(await site.ask("GET", "/v1/audit", params=ALL))
    assert await administrator.click("Pause scaling", accept=False) == PAUSE
    assert await administrator.click("Pin", accept=False) == PIN
    await administrator.submit("/console/scale/pin", "Pin", confirm=PIN)
    assert await administrator.click(f"Unpin {task}", accept=False) == f"Remove the pin of {task}?"
    await page.get_by_label("At least").fill("1")
    await administrator.submit("/console/scale/pin", "Pin", confirm=PIN)
    await expect(page.locator("#live-pins")).to_contain_text("at least 1")
    acts = (await site.ask("GET", "/v1/audit", params=ALL))[before:]
    assert [one["verb"] for one in acts] == ["pin", "pin"]


async def test_keys_are_created_limited_and_revoked(administrator: Visitor) -> None:
    page, tenant = administrator.page, f"t-{uuid4().hex[:6]}"
    await administrator.open("/console/keys")
    await page.get_by_label("Tenant").fill(tenant)
    await page.get_by_label("Purpose").fill("a test")
    await administrator.submit("/console/keys/create", "Create")
    key = await page.locator("#outcome .secret").inner_text()
    key_id = key.split("_")[1]
    listed = await administrator.site.cli.json("keys", "list", f"--tenant={tenant}")
    assert [(one["id"], one["note"]) for one in listed] == [(key_id, "a test")]
    await page.get_by_label("Key", exact=True).fill(key_id)
    await page.get_by_label("Queries/s at most").last.fill("5")
    await administrator.submit("/console/keys/limit", "Set")
    await expect(page.locator("#outcome")).to_contain_text("at most 5 queries a second")
    asked = f"Revoke key {key_id}? Its callers are refused within a second."
    await administrator.submit("/console/keys/revoke", f"Revoke {key_id}", confirm=asked)
    await expect(page.locator("#outcome")).to_contain_text(f"Revoked key {key_id}.")
    await expect(page.get_by_role("button", name=f"Revoke {key_id}")).to_have_count(0)


async def test_tenant_is_created_and_removed(administrator: Visitor) -> None:
    page, tenant = administrator.page, f"t-{uuid4().hex[:6]}"
    await administrator.open("/console/tenants")
    await page.get_by_label("Name").fill(tenant)
    await administrator.submit("/console/tenants/create", "Create")
    await page.get_by_role("link", name="Show its topics").click()
    await expect(page.locator(".facts")).to_contain_text(f"infaas.ingress.{tenant}")
    await page.get_by_label("results stay readable").fill("0")
    asked = f"Remove tenant {tenant}? Its queries are answered, then its topics are deleted."
    await administrator.submit("/console/tenants/remove", "Remove", confirm=asked)
    await expect(page.locator("#outcome")).to_contain_text(f"Removed tenant {tenant}")


async def test_dead_letters_are_shown_replayed_and_dropped(administrator: Visitor, image_task: ImageTask) -> None:
    page, task = administrator.page, image_task.task
    await administrator.site.put_letters(task, ["replayed", "dropped", "some", "some", "rest", "rest"])
    letters = f"/console/dead-letters?task={task}"
    await administrator.open(letters)
    await page.get_by_role("row", name="replayed").get_by_role("link").click()
    await expect(page.locator("pre")).to_have_text("<b>payload</b>\\xff")
    await administrator.submit("/console/dead-letters/replay", "Replay", confirm="Send this query again?")
    await expect(page.locator("#outcome")).to_contain_text("Replayed 1 of 1.")
    await administrator.open(letters)
    await page.get_by_role("row", name="dropped").get_by_role("link").click()
    lost = "Drop this dead letter? It is lost."
    await administrator.submit("/console/dead-letters/drop", "Drop", confirm=lost)
    await expect(page.locator("#outcome")).to_contain_text("Dropped 1.")
    await administrator.open(f"{letters}&reason=some")
    again = "Replay all open dead letters that match? Each is sent again at most once."
    await administrator.submit("/console/dead-letters/replay", "Replay all that match", confirm=again)
    await expect(page.locator("#outcome")).to_contain_text("Replayed 2 of 2.")
    await administrator.open(f"{letters}&reason=rest")
    lost = "Drop all open dead letters that match? They are lost."
    await administrator.submit("/console/dead-letters/drop", "Drop all that match", confirm=lost)
    await expect(page.locator("#outcome")).to_contain_text("Dropped 2.")
    await page.get_by_role("link", name="Reload the list").click()
    await expect(page.get_by_role("row", name="rest")).to_have_count(0)


async def test_job_is_followed_and_cancelled(administrator: Visitor, image_task: ImageTask) -> None:
    """One job ends; of two that wait, one is cancelled in the list and one on its own page."""
    page, site = administrator.page, administrator.site
    done = await site.put_job(image_task.task)
    await administrator.open(f"/console/jobs/{done}")
    await expect(page.locator("#live-job")).to_contain_text("succeeded")
    await expect(page.locator("pre")).to_contain_text('"outputs"')
    await administrator.check()
    asked = "Cancel this job?"
    async with suspended((await site.cli.state())["services"]["jobs"]["pid"]):
        first, second = [await site.put_job(image_task.task) for _ in range(2)]
        await administrator.open(f"/console/jobs?model={image_task.task}")
        await administrator.submit("/console/jobs/cancel", f"Cancel {first}", confirm=asked)
        await expect(page.locator("#outcome")).to_contain_text("Cancelled 1 of 1 jobs.")
        await expect(page.get_by_role("button", name=f"Cancel {first}")).to_have_count(0)
        await administrator.open(f"/console/jobs/{second}")
        await administrator.submit("/console/jobs/cancel", "Cancel", confirm=asked)
        await expect(page.locator("#live-job .state")).to_have_text("cancelled")
    await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


async def test_batch_is_cancelled_with_its_jobs(administrator: Visitor, image_task: ImageTask) -> None:
    """The batch is written to the tables, as a real one needs a model of embeddings or texts."""
    page, site, batch = administrator.page, administrator.site, f"batch_{uuid4().hex}"
    form = aiohttp.FormData({"purpose": "batch"})
    form.add_field("file", b"{}\n", filename="lines.jsonl")
    file = (await site.ask("POST", "/v1/files", data=form))["id"]
    line = LineReply(custom_id="1", form="embeddings", model=image_task.task)
    job = NewJob(
        id=uuid4().hex, model=image_task.task, task=image_task.task, offline=True, headers={}, request=b"{}",
        batch=batch, line=line,
    )  # fmt: skip
    async with (
        suspended((await site.cli.state())["services"]["jobs"]["pid"]),
        open_pool(find_database(site.cli.home)) as pool,
    ):
        await put_jobs(pool, [[job]])
        async with pool.transaction() as session:
            assert await put_batch(session, None, NewBatch(batch, ANYONE, file, EMBEDDINGS, "24h", 86400.0, None))
            await start_batch(session, batch, 1)
            await advance_batch(session, batch, 1, 0)
        await administrator.open("/console/jobs")
        asked = "Cancel this batch with its jobs?"
        await administrator.submit("/console/jobs/cancel-batch", f"Cancel {batch}", confirm=asked)
        await expect(page.locator("#outcome")).to_contain_text(f"Batch {batch} is cancelling.")
        await expect(page.get_by_role("row", name=batch[:20]).locator(".state")).to_have_text("cancelled")
        await expect(page.get_by_role("button", name=f"Cancel {batch}")).to_have_count(0)


async def test_batch_that_failed_shows_its_error(administrator: Visitor) -> None:
    site = administrator.site
    form = aiohttp.FormData({"purpose": "batch"})
    form.add_field("file", b"not a line\n", filename="lines.jsonl")
    file = (await site.ask("POST", "/v1/files", data=form))["id"]
    asked = {"input_file_id": file, "endpoint": EMBEDDINGS, "completion_window": "24h"}
    batch = (await site.ask("POST", "/v1/batches", json=asked))["id"]
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
        await publisher.sign_in(site.publisher, "/console/models")
        await fill_registration(publisher, word, tmp_path / "texts.npz")
        await slow_uploads(publisher, bytes_per_s=400_000)
        sent = asyncio.ensure_future(publisher.submit("/console/models/register", "Register"))
        await expect(page.locator(".sent")).to_have_text("Sending sent_fasttext.onnx")
        bar = page.get_by_role("progressbar", name="Upload")
        share = await read_until(lambda: bar.evaluate("one => one.value / one.max"), lambda share: share > 0)
        assert share < 1
        await sent
        live = page.locator("#live-registration")
        await page.get_by_role("link", name="Follow its progress").click()
        await read_until(live.inner_text, lambda text: STEP.search(text) is not None)
        await expect(live).to_contain_text("Ended at", timeout=UP_S * 1e3)
        await publisher.check()
        await page.get_by_role("link", name="To the model").click()
        await expect(page.locator("#live-variants")).to_contain_text("ready")
        await page.get_by_role("link", name=f"mood-{word}").click()
        await page.get_by_label("text", exact=True).fill("What a wonderful film")
        await publisher.submit("/console/tasks/{task}/ask", "Ask")
        await expect(page.locator("#answer")).to_contain_text("positive")
        await publisher.open(f"/console/removal-plan?name=mood-{word}")
        await expect(page.locator(".facts")).to_contain_text(f"texts-{word}.onnx-fp32.cpu")
        if await page.get_by_label("Remove it although it is used").count():
            await page.get_by_label("Remove it although it is used").check()
        asked = f"Unregister mood-{word}? This cannot be undone."
        await publisher.submit("/console/removals/begin", "Unregister", confirm=asked)
        await page.get_by_role("link", name="Follow it").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"Removal of mood-{word}")
        await expect(page.locator("#live-removal progress")).to_be_visible()


async def fill_registration(publisher: Visitor, word: str, validation: Path) -> None:
    """Fill the form that registers a model of texts; the model's file is dropped."""
    page = publisher.page
    place = page.locator(".drop").filter(has_text="drop it here")
    await publisher.drop(DATA / "sent_fasttext.onnx", place)
    assert await page.get_by_label("Model file").evaluate("one => one.files[0].name") == "sent_fasttext.onnx"
    await page.get_by_label("Name", exact=True).fill(f"texts-{word}")
    await page.get_by_label("Task", exact=True).fill(f"mood-{word}")
    await page.get_by_label("Labelled data").set_input_files(validation)
    await page.get_by_text("Texts, images and other options").click()
    await page.get_by_label("tokenizer.json").set_input_files(TOKENIZER)
    await page.get_by_label("Names of classes").set_input_files(DATA / "sentiment_classes.txt")
    await page.get_by_label("Variants, e.g.").fill("onnx-fp32 onnx-int8dyn")
    await page.get_by_label("Largest batch").fill("2")
    await publisher.check()


async def slow_uploads(visitor: Visitor, bytes_per_s: int) -> None:
    session = await visitor.context.new_cdp_session(visitor.page)
    await session.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s}
    await session.send("Network.emulateNetworkConditions", limits)


async def test_registration_is_cancelled(administrator: Visitor, tensor_task: TensorTask) -> None:
    page, site = administrator.page, administrator.site
    async with suspended((await site.cli.state())["services"]["registrar"]["pid"]):
        registration = await site.request_registration(f"never-{uuid4().hex[:6]}", tensor_task.task)
        await administrator.open(f"/console/registrations/{registration}")
        asked = "Cancel this registration? Ready variants are kept."
        await administrator.submit("/console/registrations/cancel", "Cancel", confirm=asked)
        await expect(page.locator("#live-registration .state")).to_have_text("cancelled")
        await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


async def test_task_of_tensors_is_asked_with_json(administrator: Visitor, tensor_task: TensorTask) -> None:
    page = administrator.page
    await administrator.open(f"/console/tasks/{tensor_task.task}")
    text = page.locator("textarea")
    administrator.expects(f"/console/tasks/{tensor_task.task}/ask", "status of 400")
    await text.fill("[[1, 2")
    await administrator.submit("/console/tasks/{task}/ask", "Ask")
    await expect(page.locator("#answer")).to_contain_text("is not JSON")
    await text.fill(json.dumps([[[[0.5] * 8] * 8]] * 2))
    await administrator.submit("/console/tasks/{task}/ask", "Ask")
    await expect(page.locator("#answer .facts")).to_contain_text(f"{tensor_task.model}.onnx-fp32.cpu")
    await expect(page.locator("#answer .facts")).to_contain_text("FP32 [2, 10]")


async def test_version_is_tried_and_rolled_back(administrator: Visitor, image_task: ImageTask) -> None:
    page, cli = administrator.page, administrator.site.cli
    words = (f"--name={image_task.model}", "--image=28x28:grey", "--top=1", "--hold")
    await cli.register("mnist_linear.onnx", *words, task=image_task.task, data="mnist-image", most=300)
    await administrator.open(f"/console/models/{image_task.model}")
    await page.get_by_label("Version", exact=True).select_option("2")
    await page.get_by_label("Share that it answers").fill("0.25")
    await page.get_by_label("Share copied to it").fill("0.5")
    await administrator.submit("/console/models/rollout", "Roll out")
    await expect(page.locator("#outcome")).to_contain_text("Version 2 answers 25%, copies 50%.")
    await expect(page.locator("#live-rollout")).to_contain_text("on trial")
    await administrator.check()
    await page.get_by_label("It serves from now on").check()
    await page.get_by_label("Share that it answers").fill("")
    await page.get_by_label("Share copied to it").fill("")
    await administrator.submit("/console/models/rollout", "Roll out")
    await expect(page.locator("#outcome")).to_contain_text(f"Version 2 of {image_task.model} serves.")
    await expect(page.get_by_role("row", name="served before")).to_have_count(1)
    without = "without one, the previous version serves again."
    asked = f"Roll back {image_task.model}? A version on trial is withdrawn; {without}"
    await administrator.submit("/console/models/rollback", "Roll back", confirm=asked)
    await expect(page.locator("#outcome")).to_contain_text(f"Version 1 of {image_task.model} serves.")

    async def rollout() -> float:
        return (await cli.json("history", image_task.model))["rollout"]["share"]

    assert await read_until(rollout, lambda share: share == 0) == 0
