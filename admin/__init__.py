"""What administrators and owners do and ask, written once for the command line and the admin API of the gateway.

One file a noun; each endpoint is a function of who asks and of what: `await pin(control, request)`. A function decides
itself whether who asks may, beyond the role that its endpoint takes; it is recorded by `control.act`.

What it raises is told alike both ways: `InvalidRequest` of what can never be right, `NotFound` of what does not exist
(or not for who asks), `Forbidden` of what is another's, and any other `OperatorError` of what does not fit how things
are.

Reading order: control (who asks, and with what at hand) -> binding (a function to an endpoint) -> catalog, versions,
removals, access (what is registered) -> scaling, lag, audit, jobs, system, keys, tenants, dead_letters, uploads,
registrations -> handlers (all of them).
"""
