"""The wire contract for machines: JSON Schema, AsyncAPI 3 and OpenAPI 3.1, generated from the code beside them.

`python -m schemas.documents` writes the JSON files of this folder; `--check` fails when one of them is stale.

Reading order: structs (JSON Schema of what is on the wire) -> fields (the headers) -> asyncapi (topics) -> responses
(errors over HTTP) -> jobs, unoffered, admin, openapi (paths) -> page (for people) -> __main__.
"""
