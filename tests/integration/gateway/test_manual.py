"""Tests of the manual as a site on a gateway, here with files of one line each."""

from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from tests.integration.gateway.conftest import Running


@pytest.fixture
def gateway_settings(tmp_path: Path) -> GatewaySettings:
    manual = tmp_path / "manual"
    (manual / "_static").mkdir(parents=True)
    (manual / "index.html").write_text("<h1>INFaaS</h1>")
    (manual / "_static" / "style.css").write_text("h1 { color: red }")
    (tmp_path / "secret").write_text("a secret")
    (manual / "link").symlink_to(tmp_path / "secret")
    return GatewaySettings(port=0, manual=manual)


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/docs", 200, "INFaaS"),
        ("/docs/index.html", 200, "INFaaS"),
        ("/docs/_static/style.css", 200, "color"),
        ("/docs/api", 200, "/v2/models/{name}/infer"),
        ("/docs/none.html", 404, "the manual has no page"),
        ("/docs/_static", 404, "the manual has no page"),
        ("/docs/link", 404, "the manual has no page"),
        ("/docs/%2e%2e/secret", 404, "error"),
        ("/docs/a%00b", 404, "the manual has no page"),
        ("/docs/" + "a" * 1000, 404, "the manual has no page"),
    ],
)
async def test_gateway_serves_manual(gateway: Running, path: str, status: int, text: str) -> None:
    async with gateway.http.get(f"{gateway.url}{path}") as response:
        assert response.status == status
        assert text in await response.text()
