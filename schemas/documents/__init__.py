"""Machine-readable wire contract, generated from code: JSON Schema, AsyncAPI 3 and OpenAPI 3.1.

`python -m schemas.documents` writes the JSON files of this folder. With `--check` it fails if a file is stale.

Reading order: components (JSON Schema of wire structs and headers, HTTP errors) -> asyncapi (topics) -> generation,
jobs, openai, admin, openapi (paths) -> page (HTML for people) -> __main__.
"""
