"""The admin API, `/v1`: one table of endpoints from which every other description of the API is generated.

The gateway's routes, the roles they require, the paths of the OpenAPI document, the requests of the command line and
the tests of authorization all come from `ENDPOINTS`. `admin/` implements each endpoint with one function.

Reading order: endpoint (an endpoint, and the conversion of a request to and from HTTP) -> catalog, versions, removals,
access (registered tasks, models and variants) -> scaling, lag, audit, jobs, system, keys, tenants, dead_letters,
uploads, registrations -> table (all endpoints).
"""
