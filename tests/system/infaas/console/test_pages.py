"""Tests of the console's pages: contents, updates, and a gateway's death."""

import json
import os
import signal

import aiohttp
import pytest
from playwright.async_api import expect

from tests.system.infaas.console.conftest import ConsoleSite, ImageTask, Visitor
from zoo.samples import DATA

pytestmark = [pytest.mark.needs_browser, pytest.mark.asyncio(loop_scope="package")]


async def test_dropped_image_is_answered_and_explained(administrator: Visitor, image_task: ImageTask) -> None:
    page = administrator.page
    await administrator.open(f"/console/tasks/{image_task.task}")
    await administrator.drop(DATA / "seven.png", page.locator("[data-drop]"))
    await expect(page.locator("img.preview")).to_be_visible()
    await page.get_by_role("button", name="Ask").click()
    await expect(page.locator("#answer")).to_contain_text("Why this variant")
    await expect(page.locator("#answer .facts")).to_contain_text(image_task.variant)
    await expect(page.locator("#answer .facts")).to_contain_text("7")
    await administrator.check()
    await expect(page.locator("#load-plot canvas")).to_be_visible()  # an update has brought the plot of the load
    await expect(page.locator("#live-frontier")).to_contain_text("100.0%")


async def test_refused_query_shows_why_each_candidate_lost(administrator: Visitor, image_task: ImageTask) -> None:
    page = administrator.page
    await administrator.open(f"/console/tasks/{image_task.task}")
    await page.locator("input[type=file]").set_input_files(DATA / "seven.png")
    await page.get_by_label("Minimum accuracy").fill("1")
    await page.get_by_role("button", name="Ask").click()
    await expect(page.locator("#answer .problem")).to_contain_text("needs_unsatisfiable")
    administrator.expects(f"/console/tasks/{image_task.task}/ask", "status of 400")
    await page.get_by_label("Minimum accuracy").fill("")
    await page.locator("input[type=file]").set_input_files([])
    await page.get_by_role("button", name="Ask").click()
    await expect(page.locator("#answer .problem")).to_contain_text("is empty")


async def test_texts_from_queries_cannot_act_in_page(administrator: Visitor) -> None:
    """A name and a filter with markup are shown as text; the policy would stop a script that slips in."""
    await administrator.open("/console/audit?actor=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    await expect(administrator.page.get_by_label("By")).to_have_value('"><script>alert(1)</script>')
    image = "/console/tasks/%3Cimg%20src=x%20onerror=alert(1)%3E"
    administrator.expects(image, "status of 404")
    await administrator.open(image)
    await expect(administrator.page.locator("main img")).to_have_count(0)


async def test_page_survives_death_of_gateway(administrator: Visitor, image_task: ImageTask) -> None:
    page, cli = administrator.page, administrator.site.cli
    await administrator.open("/console")
    await administrator.updated()
    before = await cli.state()
    administrator.expects("/console", "net::ERR")
    os.kill(before["services"]["gateway"]["pid"], signal.SIGKILL)
    await expect(page.locator("#connection")).to_contain_text("does not answer")
    await page.evaluate("document.body.removeAttribute('data-updates')")
    await administrator.updated()
    await expect(page.locator("#connection")).to_be_hidden()
    await expect(page.locator("#live-tasks")).to_contain_text(image_task.task)


async def test_updates_send_only_changed_blocks(site: ConsoleSite) -> None:
    headers = {"Authorization": f"Bearer {site.admin}", "Accept": "text/event-stream"}
    async with aiohttp.ClientSession(headers=headers) as http, http.get(f"{site.url}/console/keys") as answer:
        blocks = await read_update(answer.content)
        assert list(blocks) == ["keys"]
        made = await site.cli.json("keys", "create", "--tenant=changed", "--note=changed blocks")
        assert made["id"] in (await read_update(answer.content))["keys"]


async def read_update(content: aiohttp.StreamReader) -> dict[str, str]:
    """Return the next update of a stream, without comments."""
    while not (line := await content.readline()).startswith(b"data: "):
        assert line, "the stream has ended"
    return json.loads(line.removeprefix(b"data: "))
