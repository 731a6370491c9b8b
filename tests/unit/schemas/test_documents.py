"""The generated documents are current, and valid by the official validators."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from schemas import headers
from schemas.documents import fields
from schemas.documents.__main__ import FOLDER, stale
from schemas.documents.structs import ROOTS
from schemas.errors import ErrorCode
from schemas.oip import encode_request, encode_response

VALIDATE = FOLDER / "validate"


def load(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name).read_text())


def test_they_are_current() -> None:
    assert stale() == [], "run `make docs` and commit the result"


@pytest.mark.parametrize("root", ROOTS)
def test_json_schemas_are_schemas(root: str) -> None:
    jsonschema.Draft202012Validator.check_schema(load(f"{root}.schema.json"))


def test_json_schemas_describe_what_is_sent() -> None:
    tensors = {"x": np.ones((2, 2), np.float32)}
    for binary in (True, False):
        value, length, _ = encode_request(tensors, request_id="1", parameters={"latency_ms": 5}, binary=binary)
        jsonschema.validate(json.loads(value[:length]), load("InferRequest.schema.json"))
        value, length, _ = encode_response("m", "1", tensors, {"variant": "v"}, binary=binary)
        jsonschema.validate(json.loads(value[:length]), load("InferResponse.schema.json"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"inputs": [{"name": "x"}]}, load("InferRequest.schema.json"))


def test_openapi_is_valid() -> None:
    OpenAPIV31SpecValidator(load("openapi.json")).validate()


def test_every_error_is_in_openapi() -> None:
    assert {error["code"] for error in load("openapi.json")["x-infaas-errors"]} == set(ErrorCode)


def test_every_header_is_described() -> None:
    names = {value for name, value in vars(headers).items() if name.isupper() and isinstance(value, str)}
    assert names == set(fields.FORWARDED) | set(fields.RESULT)


@pytest.fixture(scope="session")
def parser() -> Path:
    """The folder of the official AsyncAPI parser, installed once into the user's cache."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("the AsyncAPI parser needs node 18+ and npm on PATH; neither is part of `make`'s needs")
    sources = sorted(path for path in VALIDATE.iterdir() if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "infaas" / f"asyncapi-{digest}"
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for path in sources:
            shutil.copy(path, folder)
        command = [npm, "install", "--no-audit", "--no-fund", "--silent"]
        installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
        if installed.returncode:
            pytest.skip(f"`{' '.join(command)}` in {folder} failed: {installed.stderr[-300:]}")
        (folder / "installed").touch()
    return folder


def validate(parser: Path, document: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        ["node", "asyncapi.mjs"],
        cwd=parser,
        input=json.dumps(document),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_asyncapi_is_valid(parser: Path) -> None:
    assert validate(parser, load("asyncapi.json")) == (0, [])


def test_the_asyncapi_parser_does_find_errors(parser: Path) -> None:
    broken = load("asyncapi.json")
    broken["operations"]["answerQuery"]["channel"] = {"$ref": "#/channels/absent"}
    code, found = validate(parser, broken)
    assert code == 1
    assert found
