"""Tests of accessibility: axe on every page, also as a phone with dark colours; work by keys alone; a steady focus."""

from uuid import uuid4

import pytest
import pytest_asyncio
from playwright.async_api import Browser, StorageState, expect

from gateway.console.pages import PAGES
from infaas.cli.connect import find_database
from schemas.access import ANYONE
from schemas.rows.removals import RemovalRequest
from store.pool import open_pool
from store.removals import put_removal
from tests.browser import DESKTOP, PHONE
from tests.system.infaas.console.conftest import ConsoleSite, ImageTask, TensorTask, Visitor, visiting

pytestmark = [pytest.mark.needs_browser, pytest.mark.asyncio(loop_scope="package")]

NO_TASK = "/console/tasks/none"
"""Address of an error page."""


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def addresses(site: ConsoleSite, image_task: ImageTask, tensor_task: TensorTask) -> list[str]:
    """Addresses of all pages in a system with one object of each kind, and of the form of sign-in and an error."""
    word = uuid4().hex[:6]
    await site.put_letters(image_task.task, ["a test of pages"])
    [letter] = await site.ask("GET", "/v1/dead-letters", params={"task": image_task.task})
    await site.ask("PUT", f"/v1/tenants/t-{word}", json={})
    async with open_pool(find_database(site.cli.home)) as pool:  # the API removes only names that exist
        removal = await put_removal(pool, RemovalRequest(name=f"gone-{word}"), ANYONE, "test", "test")
    objects = {
        "{task}": image_task.task,
        "{model}": image_task.model,
        "{partition}/{offset}": letter["letter"],
        "{tenant}": f"t-{word}",
        "jobs/{id}": f"jobs/{await site.put_job(image_task.task)}",
        "registrations/{id}": f"registrations/{tensor_task.registration}",
        "removals/{id}": f"removals/{removal.id}",
        "/removal-plan": f"/removal-plan?name={image_task.model}",
        "/explanation": f"/explanation?about={image_task.variant}",
    }
    paths = [page.path for page in PAGES]
    for pattern, text in objects.items():
        paths = [path.replace(pattern, text) for path in paths]
    assert not [path for path in paths if "{" in path], "a page without an object to show"
    return [*paths, "/console/sign-in", NO_TASK]


async def test_pages_are_accessible(
    browser: Browser, site: ConsoleSite, session: StorageState, addresses: list[str]
) -> None:
    """Each page is opened once, as on a phone with dark colours; then its window grows and becomes light."""
    async with visiting(browser, site, storage_state=session, reduced_motion="reduce") as visitor:
        visitor.expects(NO_TASK, "status of 404")
        for path in addresses:
            await visitor.resemble(PHONE)
            await visitor.open(path)
            heading = await visitor.page.get_by_role("heading", level=1).inner_text()
            assert heading.startswith("Error 404") is (path == NO_TASK), (path, heading)
            await visitor.check()
            await visitor.resemble(DESKTOP)
            await visitor.check()


async def test_pages_can_be_reached_by_keyboard(administrator: Visitor) -> None:
    page = administrator.page
    await administrator.open("/console")
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("Skip to the content")).to_be_focused()
    for name in ("INFaaS", "Overview", "Models"):
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name=name, exact=True)).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Models")


async def test_task_is_asked_and_pinned_by_keys_alone(administrator: Visitor, tensor_task: TensorTask) -> None:
    page, keys = administrator.page, administrator.page.keyboard
    await administrator.open(f"/console/tasks/{tensor_task.task}")
    await administrator.tab_to(page.get_by_label("Latency, ms"))
    await keys.type("60000")
    await administrator.tab_to(page.get_by_role("button", name="Ask"))
    await keys.press("Enter")
    await expect(page.locator("#answer .facts")).to_contain_text(f"{tensor_task.model}.onnx-fp32.cpu")
    await administrator.open("/console/scale")
    await administrator.tab_to(page.get_by_label("Name"))
    await keys.type(tensor_task.task)
    await administrator.tab_to(page.get_by_label("At least"))
    await keys.type("1")
    page.once("dialog", lambda dialog: dialog.accept())
    await keys.press("Enter")
    await expect(page.locator("#outcome")).to_contain_text(f"Pinned task {tensor_task.task}: at least 1.")
    await administrator.tab_to(page.get_by_role("button", name=f"Unpin {tensor_task.task}"))
    page.once("dialog", lambda dialog: dialog.accept())
    await keys.press("Space")
    await expect(page.locator("#outcome")).to_contain_text("Removed the pin")


async def test_details_opened_by_key_stay_open_over_updates(administrator: Visitor, image_task: ImageTask) -> None:
    """Each pin adds a decision above the one whose inputs are open."""
    page, cli = administrator.page, administrator.site.cli
    await cli.json("scale", "pin", "task", image_task.task, "--min=0")
    await administrator.open("/console/scale")
    opened = page.locator("#live-decisions li").filter(has=page.locator("details")).first
    moment = await opened.locator("time").get_attribute("datetime")
    await administrator.tab_to(opened.locator("summary"))
    await page.keyboard.press("Enter")
    await expect(opened.locator("code")).to_be_visible()
    await administrator.updated()
    await cli.json("scale", "unpin", "task", image_task.task)
    newest = page.locator("#live-decisions li").first.locator("time")
    await expect(newest).not_to_have_attribute("datetime", moment or "")
    mine = page.locator("#live-decisions li").filter(has=page.locator(f"time[datetime='{moment}']"))
    await expect(mine.locator("details")).to_have_attribute("open", "")
    await expect(page.locator("#live-decisions details[open]")).to_have_count(1)
    await expect(mine.locator("summary")).to_be_focused()


async def test_focus_stays_on_its_row_over_updates(administrator: Visitor) -> None:
    """A new key is shown above the one whose button has the focus: the button must stay that of its key."""
    page, site = administrator.page, administrator.site
    mine = await site.cli.json("keys", "create", "--tenant=focus")
    await administrator.open("/console/keys")
    await administrator.updated()
    button = page.get_by_role("button", name=f"Revoke {mine['id']}")
    await button.focus()
    newer = await site.cli.json("keys", "create", "--tenant=focus")
    await expect(page.get_by_role("button", name=f"Revoke {newer['id']}")).to_be_visible()
    await expect(button).to_be_focused()
