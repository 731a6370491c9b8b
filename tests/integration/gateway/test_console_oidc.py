"""Tests of sign-in to the console at a real OpenID provider, in Chromium.

The provider's address is another site than the gateway's, so cookies are sent as between two companies.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from playwright.async_api import expect

from broker.kafka.settings import KafkaSettings
from gateway.auth.authenticator import Authenticator
from gateway.console.oidc import IssuerSignIn, challenge_of
from gateway.console.rendering import Rendering
from gateway.console.sessions import SessionCodec
from gateway.settings import GatewaySettings
from process.sockets import free_port
from tests.browser import DESKTOP, PHONE, opened_browser, opened_window
from tests.integration.gateway.test_authentication import Guarded, guarded
from tests.integration.gateway.test_issuer import DISCOVERY, LARGE, IssuerInPieces
from tests.processes import environment
from tests.waiting import until

ADA = {"sub": "ada", "tenant": "acme", "roles": ["query", "admin"]}
STRANGER = {"sub": "stranger", "roles": ["something"]}


@asynccontextmanager
async def provider() -> AsyncGenerator[str]:
    """Run an OpenID provider with two users while the context is open; yield the issuer."""
    port = free_port()
    users = [word for user in (ADA, STRANGER) for word in ("--user-claims", json.dumps(user))]
    words = (sys.executable, "-m", "oidc_provider_mock", "--host=localhost", f"--port={port}", *users)
    process = await asyncio.create_subprocess_exec(*words, env=environment({}), stderr=asyncio.subprocess.DEVNULL)
    issuer = f"http://localhost:{port}"

    async def answers() -> bool:
        try:
            async with http.get(f"{issuer}/.well-known/openid-configuration") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    try:
        async with aiohttp.ClientSession() as http:
            await until(answers)
        yield issuer
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def offering(kafka: KafkaSettings, database: str, folder: Path) -> AsyncGenerator[Guarded]:
    secret = folder / "client-secret"
    secret.write_text("anything\n")
    async with (
        provider() as issuer,
        guarded(
            kafka, database, oidc_issuer=issuer, oidc_audience="infaas", oidc_client_id="infaas-console",
            oidc_client_secret_file=secret,
        ) as (gateway,),
    ):  # fmt: skip
        yield gateway


@pytest.mark.needs_browser
async def test_sign_in_at_issuer_gives_session_with_rights_of_claims(
    kafka: KafkaSettings, database: str, tmp_path: Path
) -> None:
    async with (
        offering(kafka, database, tmp_path) as gateway,
        opened_browser() as browser,
        opened_window(browser, gateway.url) as window,
    ):
        page = window.page
        await window.open("/console/scale")
        window.expects("/console/oidc/callback", "status of 401")
        await page.get_by_role("link", name="Sign in at").click()
        await page.get_by_role("button", name="stranger").click()
        await expect(page.get_by_role("alert")).to_contain_text("the token has no tenant")
        await window.check()
        await window.open("/console/scale")
        await page.get_by_role("link", name="Sign in at").click()
        await page.get_by_role("button", name="ada").click()
        await page.wait_for_url("**/console/scale")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Scale")
        await expect(page.locator(".who")).to_contain_text("acme")
        [cookie] = await page.context.cookies(f"{gateway.url}/console")
        assert (cookie.get("name"), cookie.get("sameSite")) == ("infaas-console", "Strict")


@pytest.mark.needs_browser
async def test_pages_of_sign_in_at_issuer_are_accessible(kafka: KafkaSettings, database: str, tmp_path: Path) -> None:
    """The page after the sign-in leads on at once, so a copy of it that stays is checked."""
    done = Rendering("1").text("oidc_done.html", target="/console").replace('http-equiv="refresh"', "")
    async with (
        offering(kafka, database, tmp_path) as gateway,
        opened_browser() as browser,
        opened_window(browser, gateway.url, reduced_motion="reduce") as window,
    ):
        await window.page.route("**/console/done", lambda route: route.fulfill(body=done, content_type="text/html"))
        for look in (PHONE, DESKTOP):
            await window.resemble(look)
            await window.open("/console/scale")
            await expect(window.page.get_by_role("link", name="Sign in at")).to_be_visible()
            await window.check()
            await window.open("/console/done")
            await expect(window.page.get_by_role("heading", level=1)).to_have_text("Signed in")
            await window.check()


async def test_sign_in_at_issuer_must_return_to_its_browser(
    kafka: KafkaSettings, database: str, tmp_path: Path
) -> None:
    jar = aiohttp.CookieJar(unsafe=True)  # also cookies of addresses
    async with offering(kafka, database, tmp_path) as gateway, aiohttp.ClientSession(cookie_jar=jar) as http:
        start = f"{gateway.url}/console/oidc/start?next=https://example.com"
        async with http.get(start, allow_redirects=False) as answer:
            asked = {name: value[0] for name, value in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
        assert (asked["code_challenge_method"], asked["response_type"]) == ("S256", "code")
        assert asked["redirect_uri"] == f"{gateway.url}/console/oidc/callback"
        callback = f"{gateway.url}/console/oidc/callback"
        async with aiohttp.ClientSession() as other:
            assert await refusal(other, f"{callback}?code=x&state={asked['state']}") == (
                401,
                "did not begin in this browser",
            )
        assert await refusal(http, f"{callback}?code=x&state=other") == (401, "did not begin in this browser")
        assert await refusal(http, f"{callback}?error=access_denied&state={asked['state']}") == (401, "access_denied")
        assert await refusal(http, f"{callback}?code=forged&state={asked['state']}") == (401, "gave no ID token")


async def refusal(http: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    """Return the status of an answer, and the known text that it contains."""
    async with http.get(url) as answer:
        said = await answer.text()
    known = ("did not begin in this browser", "access_denied", "gave no ID token")
    return answer.status, next((text for text in known if text in said), said)


def test_challenge_is_that_of_the_standard() -> None:
    """The pair is that of RFC 7636, appendix B."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # pragma: allowlist secret
    assert challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # pragma: allowlist secret


@pytest.mark.parametrize(("padding", "nested", "status"), [(0, 0, 303), (LARGE, 0, 503), (0, 100_000, 503)])
async def test_sign_in_reads_answers_of_issuer_to_their_end(
    monkeypatch: pytest.MonkeyPatch, padding: int, nested: int, status: int
) -> None:
    issuer = IssuerInPieces(monkeypatch)
    async with issuer.running():
        found = {"authorization_endpoint": f"{issuer.url}/authorize", "token_endpoint": f"{issuer.url}/token"}
        document = json.dumps(found | {"padding": "x" * padding}).encode()
        issuer.documents = {DISCOVERY: b'{"a":' + b"[" * nested if nested else document}
        settings = GatewaySettings(oidc_issuer=issuer.url, oidc_audience="infaas", oidc_client_id="console")
        codec = SessionCodec(b"secret", time.time)
        signing = IssuerSignIn(settings, cast(Authenticator, None), codec, Rendering("1"))
        handler = next(iter(signing.routes())).handler
        answer = await handler(make_mocked_request("GET", "/console/oidc/start", headers={"Host": "localhost"}))
        assert answer.status == status
