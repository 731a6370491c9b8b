"""Roles of routes. Every caller is authenticated first, even for an unknown path; only probes are exempt.

A route without an entry in the table requires the role admin, so that a forgotten entry refuses too many callers rather
than too few. The directory decides about access to models, and the handlers of jobs about access to jobs.
"""

from collections.abc import Mapping
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from admin.endpoints import ENDPOINTS
from admin.uploads import SEND
from gateway.auth.authenticator import Authenticator, require_role, tenant_of_request
from gateway.model_directory import ModelDirectory, ServedModels
from process.tls import certificate_names
from schemas.access import EVERY_TENANT, Principal, Role
from schemas.errors import InvalidRequest
from schemas.openai_generation import CHAT, COMPLETIONS

_OPEN: Final = frozenset(
    {
        *("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"),
        *("/openapi.json", "/docs", "/docs/api", "/docs/{path}"),
    }
)
"""Paths of probes, which send no keys, and of the documentation."""
CONSOLE: Final = "/console"
"""Path of the console, which identifies its callers itself: a browser sends a cookie instead of a key."""
_MODEL: Final = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
_OF_MODEL: Final = ("", "/ready", "/config", "/stats", "/infer", "/generate", "/generate_stream")
_MEMORY: Final = ("/v2/systemsharedmemory", "/v2/cudasharedmemory")
_REGION: Final = "/region/{region}"
_JOBS: Final = "/v2/models/{name}/jobs"
_ROLES: Final[Mapping[str, Role]] = {
    **dict.fromkeys(("/v2", "/v2/", "/v2/models/stats", "/v2/repository/index"), Role.QUERY),
    **{f"{path}{of}": Role.QUERY for path in _MODEL for of in _OF_MODEL},
    f"{_MODEL[1]}/jobs": Role.QUERY,
    **dict.fromkeys(("/v2/logging", "/v2/trace/setting", "/v2/models/{name}/trace/setting"), Role.QUERY),
    **{f"{path}{of}": Role.QUERY for path in _MEMORY for of in ("/status", "/unregister")},
    **{f"{path}{_REGION}/{of}": Role.QUERY for path in _MEMORY for of in ("status", "register", "unregister")},
    **dict.fromkeys((_JOBS, f"{_JOBS}/{{id}}", f"{_JOBS}/{{id}}/result"), Role.QUERY),
    **{f"/v2/repository/models/{{name}}/{act}": Role.PUBLISH for act in ("load", "unload")},
    **dict.fromkeys(("/v1/embeddings", "/v1/rerank", "/v1/models", "/v1/models/{model}"), Role.QUERY),
    **dict.fromkeys((CHAT, COMPLETIONS), Role.QUERY),
    **{f"/v1/files{of}": Role.QUERY for of in ("", "/{id}", "/{id}/content")},
    **{f"/v1/batches{of}": Role.QUERY for of in ("", "/{id}", "/{id}/cancel")},
    "/metrics": Role.ADMIN,  # of all tenants
}
_ADMIN_ROLES: Final = {(one.method, one.path): one.role for one in (*ENDPOINTS, SEND)}
_PRINCIPAL: Final = web.RequestKey("principal", Principal)


def required_role(method: str, path: str) -> Role | None:
    """Return the role that a route requires, by its registered path; None if it needs no authentication."""
    if path in _OPEN or path == CONSOLE or path.startswith(f"{CONSOLE}/"):
        return None
    return _ADMIN_ROLES.get((method, path)) or _ROLES.get(path, Role.ADMIN)


def authorization(authenticator: Authenticator) -> Middleware:
    """Return the middleware that authenticates callers and checks their role."""

    @web.middleware
    async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is None:  # no such path or method: reported only to authenticated callers
            await authenticator.resolve(request.headers, certified_names(request))
            return await handler(request)
        role = required_role(request.method, resource.canonical)
        if role is not None:
            principal = await authenticator.resolve(request.headers, certified_names(request))
            require_role(principal, role)
            set_principal(request, principal)
        return await handler(request)

    return authorize


def certified_names(request: web.Request) -> tuple[str, ...]:
    """Return the names in the client certificate of the connection."""
    return certificate_names(request.get_extra_info("peercert"))


def set_principal(request: web.Request, principal: Principal) -> None:
    """Set the caller of a request that was authenticated elsewhere."""
    request[_PRINCIPAL] = principal


def principal_of(request: web.Request) -> Principal:
    """Return the authenticated caller of a route that requires a role."""
    return request[_PRINCIPAL]


def owner_of(request: web.Request) -> str | None:
    """Return the tenant whose jobs, files and batches the caller sees: empty for those without one, None for all."""
    tenant = tenant_of_request(principal_of(request), request.headers)
    if tenant is not None and not tenant.isprintable():  # Postgres could not search for it
        raise InvalidRequest(f"{tenant[:80]!r} has characters that no name contains")
    return None if tenant == EVERY_TENANT else tenant or ""


def models_for(request: web.Request, models: ModelDirectory) -> ServedModels:
    """Return the models that the caller may use."""
    principal = principal_of(request)
    return models.seen_by(tenant_of_request(principal, request.headers)).of_tasks(principal.tasks)
