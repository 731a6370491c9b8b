"""The form that asks a task: its fields become a query on the way of all queries, and the answer is explained.

The query has the caller's rights, quota and tenant, and is counted like any other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.auth.authenticator import require_role
from gateway.console.forms import Form
from gateway.console.routes import ConsoleRoutes
from gateway.console.visit import Visit
from gateway.http.authorization import models_for
from gateway.http.inference import client_of
from gateway.inference import ArrivedRequest, Inference
from gateway.model_directory import ModelDirectory
from schemas import headers as h
from schemas.access import Role
from schemas.errors import InvalidRequest, QueryError
from schemas.generation import TEXT_INPUT
from schemas.hardware import priced_unit
from schemas.result import Result
from schemas.signature import JSON, TensorSpec, is_plain

_INPUT: Final = "input."
"""Prefix of the fields with inputs; the others are needs."""
_NEEDS: Final = tuple(name for name in h.NEEDS if name not in ("mode", "tenant", "explain"))
_OPTIONS: Final = ("temperature", "seed")
"""Fields that are options of a generated answer."""
CHAT: Final = "chat"
"""Field that makes a prompt the message of a user."""
_MOST_VALUES: Final = 24
_MOST_CHARACTERS: Final = 2000
_IMAGES: Final = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"))


class ShownOutput(msgspec.Struct, frozen=True, kw_only=True):
    """Output of an answer as text."""

    name: str
    type: str
    """Datatype and shape."""
    values: str


class AskRoutes:
    """Handler of the form."""

    def __init__(self, console: ConsoleRoutes, models: ModelDirectory, inference: Inference) -> None:
        self._console = console
        self._models = models
        self._inference = inference

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [web.post("/console/tasks/{task}/ask", self._console.handler(self._ask))]

    async def _ask(self, visit: Visit) -> web.Response:
        require_role(visit.principal, Role.QUERY)
        form = await self._console.read_form(visit, files=True)
        request = visit.request
        model = models_for(request, self._models).find(request.match_info["task"])
        made = ArrivedRequest(*(prompt_of(form) if model.is_generative else query_of(model.inputs, form)))
        unit = priced_unit(generative=model.is_generative)
        try:
            result = await self._inference.ask_made(model, visit.principal, client_of(request.transport), made)
        except QueryError as error:
            explanation = plain(error.explanation)
            return self._console.fragment(
                "answer_part.html", visit, error=error, result=None, outputs=(), explanation=explanation, unit=unit
            )
        explanation = msgspec.json.decode(result.explanation) if result.explanation else None
        outputs = shown_outputs(result)
        return self._console.fragment(
            "answer_part.html", visit, error=None, result=result, outputs=outputs, explanation=explanation, unit=unit
        )


def query_of(inputs: Sequence[TensorSpec], form: Form) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of the query that a form describes. Pure.

    Raises:
        InvalidRequest: an input is missing, or is not JSON.
    """
    headers = _needs_of(form)
    if len(inputs) == 1 and inputs[0].datatype == "BYTES":
        field = _INPUT + inputs[0].name
        content = form.files.get(field) or form.text(field).encode()
        kind = next((kind for start, kind in _IMAGES if content.startswith(start)), "text/plain")
        if not content:
            raise InvalidRequest(f"{inputs[0].name} is empty: enter a text, or choose a file")
        if not form.files.get(field) or (kind != "text/plain" and is_plain(kind, inputs)):
            return headers | {h.CONTENT_TYPE: kind}, content
        raise InvalidRequest(f"{inputs[0].name} is neither a PNG nor a JPEG file")
    tensors = [_tensor(spec, form.text(_INPUT + spec.name)) for spec in inputs if not spec.parameter]
    return headers | {h.CONTENT_TYPE: JSON}, msgspec.json.encode({"inputs": tensors})


def prompt_of(form: Form) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of the query for a text that a form describes. Pure.

    Raises:
        InvalidRequest: the prompt is missing, or an option is no number.
    """
    text = form.text(_INPUT + TEXT_INPUT)
    if not text:
        raise InvalidRequest(f"{TEXT_INPUT} is empty: enter a text")
    parameters: dict[str, Any] = {}
    for name in _OPTIONS:
        if value := form.text(name).strip():
            parameters[name] = _number(name, value)
    if form.text(CHAT):
        parameters[CHAT] = True
        text = msgspec.json.encode([{"role": "user", "content": text}]).decode()
    tensor = {"name": TEXT_INPUT, "datatype": "BYTES", "shape": [1], "data": [text]}
    body = msgspec.json.encode({"parameters": parameters, "inputs": [tensor]})
    return _needs_of(form) | {h.CONTENT_TYPE: JSON}, body


def _needs_of(form: Form) -> dict[str, str]:
    given = {h.NEEDS[name]: value for name in _NEEDS if (value := form.text(name).strip())}
    return given | {h.NEEDS["explain"]: "true"}


def _number(name: str, text: str) -> int | float:
    try:
        return msgspec.json.decode(text, type=int | float)
    except msgspec.MsgspecError:
        raise InvalidRequest(f"{name} must be a number, not {text[:80]!r}") from None


def _tensor(spec: TensorSpec, text: str) -> dict[str, Any]:
    try:
        data = msgspec.json.decode(text.encode())
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequest(f"{spec.name} is not JSON: {error}") from None
    if not isinstance(data, list):
        raise InvalidRequest(f"{spec.name} must be a list, as its shape is {list(spec.shape)}")
    return {"name": spec.name, "datatype": spec.datatype, "shape": shape_of(data), "data": data}


def shape_of(data: Any) -> list[int]:
    """Return the shape of nested lists, by the first of each. Pure."""
    shape = list[int]()
    while isinstance(data, list):
        shape.append(len(data))
        data = data[0] if data else None
    return shape


def plain(explanation: Any) -> Any:
    """Return an explanation as plain objects. Pure."""
    return msgspec.json.decode(explanation) if isinstance(explanation, msgspec.Raw) else explanation


def shown_outputs(result: Result) -> list[ShownOutput]:
    """Return the outputs of a result as text. Pure."""
    content: Mapping[str, Any] = msgspec.json.decode(result.value)
    return [
        ShownOutput(name=one["name"], type=f"{one['datatype']} {one['shape']}", values=_values(one.get("data", ())))
        for one in content.get("outputs", ())
    ]


def _values(data: Any) -> str:
    flat = list[str]()
    stack = [data]
    while stack and len(flat) <= _MOST_VALUES:
        one = stack.pop()
        if isinstance(one, list):
            stack.extend(reversed(one))
        else:
            flat.append(f"{one:.4g}" if isinstance(one, float) else str(one))
    return ", ".join(flat[:_MOST_VALUES])[:_MOST_CHARACTERS] + (", …" if len(flat) > _MOST_VALUES else "")
