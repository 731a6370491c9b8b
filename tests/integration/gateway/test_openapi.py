"""The OpenAPI document names the paths that the gateway has, and no others."""

import json

from gateway.http.inference import InferenceRoutes
from gateway.http.request_bodies import RequestBodies
from gateway.model_directory import ModelDirectory
from gateway.service import all_routes
from gateway.settings import GatewaySettings
from gateway.statistics import ModelStatisticsTable
from schemas.documents.__main__ import FOLDER
from store.catalog import Catalog
from tests.integration.gateway.conftest import Running


async def always_ready() -> str:
    return ""


UNLISTED = {("GET", "/v2/"), ("GET", "/health/live"), ("GET", "/health/ready")}
"""Other spellings of listed ones."""


async def test_paths_are_the_routes(gateway: Running) -> None:
    document = json.loads((FOLDER / "openapi.json").read_text())
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    models, statistics, bodies = (
        ModelDirectory(Catalog()),
        ModelStatisticsTable("gateway"),
        RequestBodies(GatewaySettings()),
    )
    inference = InferenceRoutes(models, gateway.query_client, statistics, bodies)
    routes = all_routes(inference, models, statistics, bodies, always_ready)
    assert {(route.method, route.path) for route in routes} == listed | UNLISTED
