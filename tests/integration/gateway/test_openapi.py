"""Test of the OpenAPI document: its paths equal the gateway's routes."""

import json

from broker.kafka.settings import KafkaSettings
from gateway.auth.authenticator import Authenticator
from gateway.generation import Generation
from gateway.http.admin import AdminRoutes
from gateway.http.bodies import RequestBodies
from gateway.http.generate import GenerateRoutes
from gateway.http.inference import InferenceRoutes
from gateway.http.jobs import JobRoutes
from gateway.http.manual import ManualRoutes
from gateway.http.uploads import UploadRoutes
from gateway.inference import Inference
from gateway.jobs.submission import JobQuota, JobWriter
from gateway.limits.arrivals import BodyBudget
from gateway.limits.quotas import QuotaMeters
from gateway.model_directory import ModelDirectory
from gateway.openai.routes import OpenAiRoutes
from gateway.service import all_routes
from gateway.settings import GatewaySettings
from gateway.statistics import ModelStatisticsTable
from schemas.catalog import Catalog
from schemas.documents.__main__ import FOLDER
from store.pool import open_pool
from tests.integration.gateway.conftest import NOWHERE, Running


async def always_ready() -> str:
    return ""


UNLISTED = {("GET", "/v2/"), ("GET", "/health/live"), ("GET", "/health/ready")}
"""Aliases of documented paths."""


async def test_openapi_paths_equal_routes(gateway: Running) -> None:
    document = json.loads((FOLDER / "openapi.json").read_text())
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    models, statistics, bodies = (
        ModelDirectory(Catalog()),
        ModelStatisticsTable("gateway"),
        RequestBodies(GatewaySettings(), room := BodyBudget(1)),
    )
    quotas = QuotaMeters()
    asking = Inference(gateway.query_client, statistics, room, quotas)
    inference = InferenceRoutes(models, asking, bodies, Authenticator(None))
    async with open_pool(NOWHERE, min_size=0) as pool:
        settings = GatewaySettings()
        admin = AdminRoutes(settings, KafkaSettings(), bodies, pool, "")
        uploads = UploadRoutes(settings, pool, admin.turn, "")
        client, writer = gateway.query_client, JobWriter(pool, JobQuota(1, 1))
        jobs = JobRoutes(models, client, bodies, writer, pool, quotas, settings)
        generation = Generation(asking)
        openai = OpenAiRoutes(settings, models, asking, generation, client, bodies, writer, quotas, pool, "")
    parts = (inference, GenerateRoutes(models, generation, bodies), jobs, admin, uploads, openai, ManualRoutes())
    routes = all_routes(parts, models, statistics, bodies, always_ready)
    assert {(route.method, route.path) for route in routes} == listed | UNLISTED
