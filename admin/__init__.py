"""Administration of the system, shared by the command line and the admin API of the gateway.

Each file covers one noun. An endpoint is a function of the caller and the request: `await pin(control, request)`.
Beyond the role that the endpoint requires, the function itself checks the caller's permission. `control.act` describes
the act for the audit log.

The errors are the same on both ways: `InvalidRequest` for a request that can never succeed, `NotFound` for an object
that does not exist or that the caller may not see, `Forbidden` for an object of another owner, and any other
`OperatorError` for a conflict with the present state.

Reading order: control (caller and resources of a request) -> binding (of a function to an endpoint) -> catalog,
versions, removals, access (registered objects) -> scaling, lag, audit, jobs, system, keys, tenants, dead_letters,
uploads, registrations -> handlers (all of them).
"""
