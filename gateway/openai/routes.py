"""All routes of OpenAI's API, and the background work of its batches."""

from functools import cache

from aiohttp import web

from gateway.generation import Generation
from gateway.http.bodies import RequestBodies
from gateway.inference import Inference
from gateway.jobs.submission import JobWriter
from gateway.limits.quotas import QuotaMeters
from gateway.model_directory import ModelDirectory
from gateway.openai.batch_keeper import BatchKeeper
from gateway.openai.batches import BatchRoutes
from gateway.openai.completion_routes import CompletionRoutes
from gateway.openai.files import FileRoutes
from gateway.openai.queries import OpenAiQueryRoutes
from gateway.query_client import QueryClient
from gateway.settings import GatewaySettings
from registry.artifact_settings import open_uploads
from registry.artifacts import ArtifactStore
from store.pool import Pool


class OpenAiRoutes:
    """Handlers of OpenAI's API.

    Args:
        settings: settings of the gateway.
        models: names that clients may use as models.
        inference: executor of queries.
        generation: executor of generative queries.
        query_client: client whose clock dates jobs.
        bodies: reader of request bodies.
        writer: writer of jobs.
        quotas: quotas of principals.
        pool: connections to Postgres.
        artifacts: location of model files; empty for the default in the home folder.
    """

    def __init__(
        self, settings: GatewaySettings, models: ModelDirectory, inference: Inference, generation: Generation,
        query_client: QueryClient, bodies: RequestBodies, writer: JobWriter, quotas: QuotaMeters, pool: Pool,
        artifacts: str,
    ) -> None:  # fmt: skip
        @cache
        def uploads() -> ArtifactStore:
            return open_uploads(artifacts, settings.home)

        def now_ns() -> int:
            return query_client.clock.now_ns()

        most, kept_s = settings.max_body_bytes, settings.file_retention_s
        self.keeper = BatchKeeper(pool, writer, models, uploads, now_ns, most, kept_s, quotas)
        """Background work of batches."""
        self.files = FileRoutes(settings, pool, uploads)
        self._parts = (
            OpenAiQueryRoutes(models, inference, bodies),
            CompletionRoutes(models, generation, bodies),
            self.files,
            BatchRoutes(pool, bodies, self.keeper),
        )

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [route for part in self._parts for route in part.routes()]
