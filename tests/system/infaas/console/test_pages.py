"""Tests of the console's pages: contents, updates, accessibility, phones and dark screens, and a gateway's death."""

import base64
import json
import os
import signal

import aiohttp
import pytest
from playwright.async_api import Browser, expect

from tests.system.infaas.console.conftest import ConsoleSite, ImageTask, Visitor, visiting
from zoo.samples import DATA

pytestmark = pytest.mark.asyncio(loop_scope="package")

MENU = ("/console/models", "/console/scale", "/console/jobs", "/console/dead-letters", "/console/keys",
        "/console/tenants", "/console/audit")  # fmt: skip


async def test_pages_are_accessible_on_phone_and_dark_screen(
    browser: Browser, site: ConsoleSite, image_task: ImageTask
) -> None:
    of_names = (f"/console/tasks/{image_task.task}", f"/console/models/{image_task.model}",
                f"/console/removal-plan?name={image_task.model}",
                f"/console/scale/explanation?about={image_task.variant}")  # fmt: skip
    phone = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}
    async with visiting(browser, site) as wide, visiting(browser, site, **phone) as narrow:
        for visitor in (wide, narrow):
            await visitor.sign_in(site.admin)
            for path in ("/console", *MENU, *of_names):
                await visitor.open(path)
                await expect(visitor.page.get_by_role("heading", level=1)).not_to_contain_text("Error")
                await visitor.check()
                overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                assert await visitor.page.evaluate(overflow) == 0, path


async def test_pages_can_be_reached_by_keyboard(administrator: Visitor) -> None:
    page = administrator.page
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("Skip to the content")).to_be_focused()
    for name in ("INFaaS", "Overview", "Models"):
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name=name, exact=True)).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Models")


async def test_dropped_image_is_answered_and_explained(administrator: Visitor, image_task: ImageTask) -> None:
    page = administrator.page
    await administrator.open(f"/console/tasks/{image_task.task}")
    image = base64.b64encode((DATA / "seven.png").read_bytes()).decode()
    await page.evaluate(
        """image => {
            const bytes = Uint8Array.from(atob(image), (one) => one.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "seven.png", { type: "image/png" }));
            const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
            document.querySelector("[data-drop]").dispatchEvent(event);
        }""",
        image,
    )
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
    await page.get_by_label("Minimum accuracy").fill("")
    await page.locator("input[type=file]").set_input_files([])
    await page.get_by_role("button", name="Ask").click()
    await expect(page.locator("#answer .problem")).to_contain_text("is empty")


async def test_texts_from_queries_cannot_act_in_page(administrator: Visitor) -> None:
    """A name and a filter with markup are shown as text; the policy would stop a script that slips in."""
    await administrator.open("/console/audit?actor=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    await expect(administrator.page.get_by_label("By")).to_have_value('"><script>alert(1)</script>')
    await administrator.open("/console/tasks/%3Cimg%20src=x%20onerror=alert(1)%3E")
    await expect(administrator.page.locator("main img")).to_have_count(0)


async def test_page_survives_death_of_gateway(administrator: Visitor, image_task: ImageTask) -> None:
    page, cli = administrator.page, administrator.site.cli
    await administrator.open("/console")
    await administrator.updated()
    before = await cli.state()
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
