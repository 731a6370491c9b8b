"""The admin API, `/v1`: one table of what can be asked of it, from which everything else about it is made.

The gateway's routes, the roles these take, the paths of the OpenAPI document, the requests of the command line and the
tests of who may do what all come from `ENDPOINTS`. What is done is in `admin/`, one function each.

Reading order: endpoint (one of them, and a request's way to HTTP and back) -> catalog, versions, removals, access (what
is registered) -> scaling, lag, audit, jobs, system, keys, tenants, dead_letters, uploads, registrations -> table (all
of them).
"""
