"""Tests of sign-in to the console: sessions, the end of a key, tenants, strangers, and requests of other pages."""

import aiohttp
import pytest
from playwright.async_api import Browser, expect

from gateway.console.pages import PAGES
from schemas.access import Role
from tests.system.infaas.console.conftest import ConsoleSite, Visitor, visiting

pytestmark = [pytest.mark.needs_browser, pytest.mark.asyncio(loop_scope="package")]


async def test_sign_in_leads_to_requested_page_and_out_again(visitor: Visitor) -> None:
    await visitor.open("/console/scale")
    await visitor.check()
    visitor.expects("/console/sign-in", "status of 401")
    await visitor.page.get_by_label("API key").fill("infaas_wrong")
    await visitor.page.get_by_role("button", name="Sign in").click()
    await expect(visitor.page.get_by_role("alert")).to_contain_text("not an API key")
    await visitor.sign_in(visitor.site.admin, "/console/scale")
    await expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Scale")
    [cookie] = await visitor.context.cookies()
    assert (cookie.get("httpOnly"), cookie.get("sameSite"), cookie.get("path")) == (True, "Strict", "/console")
    assert visitor.site.admin[-20:] not in str(cookie)
    await visitor.page.get_by_role("button", name="Sign out").click()
    await visitor.open("/console/audit")
    assert "/console/sign-in" in visitor.page.url


async def test_revoked_key_ends_its_session(visitor: Visitor) -> None:
    made = await visitor.site.cli.json("keys", "create", "--role=admin")
    await visitor.sign_in(made["key"])
    await visitor.updated()
    await visitor.site.cli.json("keys", "revoke", made["id"])
    await visitor.page.wait_for_url("**/console/sign-in**")


async def test_tenant_sees_its_own_and_no_more(browser: Browser, site: ConsoleSite) -> None:
    async with visiting(browser, site) as tenant:
        await tenant.sign_in(site.stranger)
        menu = tenant.page.get_by_role("navigation", name="Pages").get_by_role("link")
        assert await menu.all_inner_texts() == ["Overview", "Models", "Jobs"]
        await tenant.check()
        for path in [page.path for page in PAGES if page.role is Role.ADMIN and "{" not in page.path]:
            tenant.expects(path, "status of 403")
            await tenant.open(path)
            await expect(tenant.page.get_by_role("heading", level=1)).to_have_text("Error 403")
        await tenant.open("/console/models")
        await expect(tenant.page.get_by_role("button", name="Register")).to_have_count(0)


async def test_requests_of_strangers_are_refused(site: ConsoleSite) -> None:
    act, page = f"{site.url}/console/scale/pause", f"{site.url}/console"
    async with aiohttp.ClientSession(headers={"Accept": "text/html"}) as http:
        async with http.get(page, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/console/sign-in?next=/console")
        async with http.post(act, data={}, allow_redirects=False) as answer:
            assert answer.status == 401
        forged = {"Cookie": "infaas-console=eyJ1bnRpbCI6OWU5fQ.AAAA"}
        async with http.get(page, headers=forged, allow_redirects=False) as answer:
            assert answer.status == 303
        known = {"Authorization": f"Bearer {site.admin}"}
        async with http.post(act, headers=known) as answer:
            assert answer.status == 403  # without the token of a form
        async with http.get(page, headers=known) as answer:
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
            assert answer.status == 200
        foreign = {"Origin": "https://example.com", "Sec-Fetch-Site": "cross-site"}
        async with http.post(act, headers=known | foreign) as answer:
            assert answer.status == 403
        async with http.get(page, headers=known | foreign) as answer:
            assert answer.status == 403
        async with http.post(f"{site.url}/console/sign-in", data={"key": site.admin}, headers=foreign) as answer:
            assert (answer.status, "Set-Cookie" in answer.headers) == (403, False)
