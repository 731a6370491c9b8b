"""Valid requests with one or more errors, which get further than requests made from the document alone.

Each must get an answer, or an error in JSON that names the mistake.
"""

import asyncio
import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import islice
from math import inf
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from aiohttp import ClientError, ClientSession, ClientTimeout

from schemas.errors import Internal
from schemas.oip import EncodedMessage, decode_response, encode_request
from schemas.result import ErrorBody
from schemas.tensors import DTYPES, Array, bytes_array

_ODD: Final[tuple[Any, ...]] = (
    None, True, -1, 0, 7.5, 2**63, 2**64, -(2**70), 1e308, "", "x" * 300, "NaN", "\ud800", "\0", "é", [], {}, [[]],
    [None], {"a": []}, "FP16", "BYTES", "BF16", [2**31], [0, 0], [1] * 17,
)  # fmt: skip
_NEEDS: Final = ("abc", "-1", "0", "1e400", "nan", "inf", "", "0x10", "1_000", "٣", "true", " 5 ")
_HEADERS: Final = (
    *(f"infaas-{need}" for need in ("latency-ms", "deadline-ms", "min-accuracy", "max-cost", "mode", "allow-late")),
    *(f"infaas-{name}" for name in ("explain", "target", "tenant", "batch", "sent-ns", "id", "reply-to", "latncy-ms")),
    *(
        "traceparent",
        "inference-header-content-length",
        "content-encoding",
        "accept-encoding",
        "content-type",
        "expect",
    ),
)
_TYPES: Final = ("image/png", "text/plain", "application/octet-stream", "application/cloudevents+json", "a", "gzip, br")
_PARAMETERS: Final = ("latency_ms", "priority", "timeout", "mode", "mine")
_FORMS: Final = ("classification", "binary_data", "shared_memory_region")
_MOST_ROWS: Final = 3
ANSWERED: Final = frozenset({200, 400, 403, 404, 413, 415, 417, 422, 429, 503, 504})
"""Allowed statuses of an answer to a query; 500 is not allowed."""
_AT_ONCE: Final = 8
_MOST_FAILURES: Final = 20
_LATEST_S: Final = 60.0


class Mutant(NamedTuple):
    """Mutated request as it is sent."""

    model: str
    body: bytes
    headers: dict[str, str]


def mutants(models: Sequence[dict[str, Any]], rng: Random) -> Iterator[Mutant]:
    """Yield requests to models, based on their metadata, without end."""
    while True:
        model = rng.choice(models)
        encoded = _valid(model, rng)
        body, length = encoded.value, encoded.json_length
        if length is None and rng.random() < 0.7:
            body = _changed_json(body, rng)
        for _ in range(rng.choice((0, 0, 1, 1, 3))):
            body = _changed_bytes(body, rng)
        headers = {"infaas-latency-ms": "5000", "content-type": encoded.content_type}
        if length is not None:
            headers["inference-header-content-length"] = str(max(length + rng.choice((0, 0, 0, 0, -1, 1, -length)), 0))
        if rng.random() < 0.3:
            headers[rng.choice(_HEADERS)] = rng.choice(_NEEDS + _TYPES)
        if rng.random() < 0.1:
            body, headers["content-encoding"] = gzip.compress(body)[: rng.choice((None, None, -1))], "gzip"
        yield Mutant(model["name"], body, headers)


def _valid(model: dict[str, Any], rng: Random) -> EncodedMessage:
    rows = rng.randint(1, _MOST_ROWS)
    inputs = {spec["name"]: _tensor(spec, rows, rng) for spec in model["inputs"]}
    outputs = rng.sample([spec["name"] for spec in model["outputs"]], rng.randint(0, len(model["outputs"])))
    return encode_request(inputs, request_id="fuzz", outputs=outputs, binary=rng.random() < 0.4)


def _tensor(spec: dict[str, Any], rows: int, rng: Random) -> Array:
    first, *others = spec["shape"] or [1]
    shape = [rows if first < 0 else first, *(rng.randint(1, 8) if length < 0 else length for length in others)]
    if spec["datatype"] == "BYTES":
        count = int(np.prod(shape))
        return bytes_array([rng.choice(("a film", "", "é" * 9, "x" * 99)) for _ in range(count)]).reshape(shape)
    values = [rng.choice((0, 1, 2, 100)) for _ in range(int(np.prod(shape)))]
    return np.array(values).astype(DTYPES[spec["datatype"]]).reshape(shape)


def _changed_json(body: bytes, rng: Random) -> bytes:
    content: Any = json.loads(body)
    if rng.random() < 0.3:
        content["parameters"] = {rng.choice(_PARAMETERS): _odd(rng)}
    if rng.random() < 0.3:
        form = {rng.choice(_FORMS): deepcopy(rng.choice((1, 2, *_ODD)))}
        content["outputs"] = [{"name": rng.choice(("y", "label", "scores", "")), "parameters": form}]
    for _ in range(rng.choice((0, 1, 1, 2))):
        _change_node(content, rng)
    return json.dumps(content).encode()


def _change_node(content: Any, rng: Random) -> None:
    """Replace, drop or double a random node of a document."""
    places = list(_places(content))
    if not places:
        return
    parent, key = rng.choice(places)
    what = rng.random()
    if what < 0.6:
        parent[key] = _odd(rng)
    elif what < 0.8:
        del parent[key]
    elif isinstance(parent, list):
        parent.insert(key, deepcopy(parent[key]))
    else:
        parent[f"{key} "] = deepcopy(parent[key])


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    keys = content.keys() if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in list(keys):
        yield content, key
        yield from _places(content[key])


def _odd(rng: Random) -> Any:
    return deepcopy(rng.choice(_ODD))  # a copy, because a later mutation of it must not change the constants


def _changed_bytes(body: bytes, rng: Random) -> bytes:
    start, end = sorted(rng.randint(0, len(body)) for _ in range(2))
    what = rng.randrange(4)
    if what == 0:
        return body[:start] + rng.randbytes(rng.randint(1, 4)) + body[start:]
    if what == 1:
        return body[:start]
    if what == 2:
        return body[:start] + body[end:]
    return body + body[start:end]


class MutationReport(NamedTuple):
    """Result of a run."""

    requests: int
    statuses: dict[int, int]
    failures: list[str]
    """Requests with a wrong answer, and that answer; the first few."""


async def mutate_http(url: str, seed: int, *, seconds: float = inf, most: int | None = None) -> MutationReport:
    """Send mutated requests to the models at `url` for `seconds`, or until `most` are sent."""
    end, statuses, failures = time.monotonic() + seconds, Counter[int](), list[str]()
    async with ClientSession(timeout=ClientTimeout(total=_LATEST_S)) as http:
        made = islice(mutants(await _described(http, url), Random(seed)), most)

        async def send_many() -> None:
            for mutant in made:
                status, problem = await _send(http, url, mutant)
                statuses[status] += 1
                if problem:
                    failures.append(f"{status} {problem}: {mutant.model} {mutant.headers} {mutant.body[:1000]!r}")
                if time.monotonic() > end or len(failures) >= _MOST_FAILURES:
                    return

        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_ONCE):
                tasks.create_task(send_many())
    return MutationReport(statuses.total(), dict(sorted(statuses.items())), failures)


async def _described(http: ClientSession, url: str) -> list[dict[str, Any]]:
    async with http.post(f"{url}/v2/repository/index", json={"ready": True}) as response:
        names = sorted({model["name"] for model in await response.json()})
    found: list[dict[str, Any]] = []
    for name in names:
        async with http.get(f"{url}/v2/models/{name}") as response:
            found.append(await response.json())
    return found


async def _send(http: ClientSession, url: str, mutant: Mutant) -> tuple[int, str]:
    """Send a mutant. Returns the status of the answer, and its fault, or an empty string."""
    path = f"{url}/v2/models/{mutant.model}/infer"
    try:
        async with http.post(path, data=mutant.body, headers=mutant.headers) as response:
            body, length = await response.read(), response.headers.get("Inference-Header-Content-Length")
            return response.status, _problem(response.status, body, length)
    except (ClientError, TimeoutError) as error:
        return 0, f"no answer ({error!r})"


def _problem(status: int, body: bytes, json_length: str | None) -> str:
    if status not in ANSWERED:
        return f"undocumented, {body[:200]!r}"
    try:
        if status == 200:
            decode_response(body, None if json_length is None else int(json_length))
        elif not msgspec.json.decode(body, type=ErrorBody).error:
            return "the error is empty"
    except (msgspec.MsgspecError, Internal, json.JSONDecodeError) as error:
        return f"unreadable ({error}), {body[:200]!r}"
    return ""
