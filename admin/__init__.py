"""Administration of the system, shared by the command line and the admin API of the gateway.

Each file covers one noun: the structs of its requests and results, its endpoints, and their effects. An endpoint is a
function of the caller and the request: `await pin(context, request)`. Beyond the role that the endpoint requires, the
function itself checks the caller's permission. `context.act` describes the act for the audit log. The gateway's routes,
the OpenAPI document and the options of the command line follow from the endpoints.

The errors are the same on both ways: `InvalidRequest` for a request that can never succeed, `NotFound` for an object
that does not exist or that the caller may not see, `Forbidden` for an object of another owner, and any other
`OperatorError` for a conflict with the present state.

Reading order: api (declaration of endpoints, conversion to and from HTTP) -> catalog, versions, removals, access
(registered objects) -> scaling, audit, jobs, system (health and lag), overview (load at a glance), activity (load and
scale over time), keys, tenants, dead_letters, uploads, registrations -> endpoints (all of them).
"""
