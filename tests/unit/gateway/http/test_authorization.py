"""Tests of the role that each route of the OpenAPI document requires."""

import json

import pytest

from admin.endpoints import ENDPOINTS
from admin.uploads import SEND
from gateway.auth.authenticator import require_role
from gateway.http.authorization import required_role
from schemas.access import Principal, Role
from schemas.documents.__main__ import FOLDER
from schemas.errors import Forbidden

ANYBODY = {"/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs", "/docs/api"}
HIGHER = {
    "/metrics": Role.ADMIN,
    "/v2/repository/models/{name}/load": Role.PUBLISH,
    "/v2/repository/models/{name}/unload": Role.PUBLISH,
}
ADMINISTRATION = {(one.method, one.path): one.role for one in (*ENDPOINTS, SEND)}
PATHS: dict[str, list[str]] = json.loads((FOLDER / "openapi.json").read_text())["paths"]
ROUTES = sorted((method.upper(), path) for path, methods in PATHS.items() for method in methods)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_required_role_of_each_route(method: str, path: str) -> None:
    written = ADMINISTRATION.get((method, path)) or HIGHER.get(path, Role.QUERY)
    assert required_role(method, path) == (None if path in ANYBODY else written)


def test_required_role_of_unknown_route_is_admin() -> None:
    assert required_role("GET", "/v2/brand-new") is Role.ADMIN


def test_require_role_names_missing_role() -> None:
    require_role(Principal("k", "acme", frozenset({Role.ADMIN})), Role.PUBLISH)
    with pytest.raises(Forbidden, match="requires the role publish, and yours is query"):
        require_role(Principal("k", "acme", frozenset({Role.QUERY})), Role.PUBLISH)
    with pytest.raises(Forbidden, match="yours is none"):
        require_role(Principal("k", "acme", frozenset()), Role.QUERY)
