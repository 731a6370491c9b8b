"""The form that registers a model: files are uploaded by the page's script, and then named in a registration.

A file is uploaded under the hash of its content as over the API, with the session in place of a key.
"""

from typing import Any, Final

import msgspec
from aiohttp import web

from admin.registrations import model as register
from gateway.console.forms import Form
from gateway.console.page import ActOutcome
from gateway.console.routes import TOKEN_HEADER, ConsoleRoutes, check_token
from gateway.console.visit import Visit
from gateway.http.uploads import UploadRoutes
from schemas.errors import InvalidRequest
from schemas.registrations import ModelToRegister

_FILES: Final = ("file", "validation", "calibration")


class RegisterRoutes:
    """Handlers of uploads and of the form."""

    def __init__(self, console: ConsoleRoutes, uploads: UploadRoutes) -> None:
        self._console = console
        self._uploads = uploads

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [
            web.put("/console/uploads/{sha256}", self._console.handler(self._upload)),
            web.post("/console/models/register", self._console.handler(self._register)),
        ]

    async def _upload(self, visit: Visit) -> web.StreamResponse:
        check_token(visit, visit.request.headers.get(TOKEN_HEADER, ""))
        return await self._uploads.receive(visit.request, visit.principal)

    async def _register(self, visit: Visit) -> web.Response:
        form = await self._console.read_form(visit)
        row = await visit.act(register, model_of(form))
        self._console.changes.notify()
        link = f"/console/registrations/{row.id}"
        text = f"The registration of {row.name} waits for a registrar."
        return self._console.outcome(visit, ActOutcome(text, link=link, link_text="Follow its progress"))


def model_of(form: Form) -> ModelToRegister:
    """Return the registration that a form describes. Pure.

    Raises:
        InvalidRequest: a field is missing or invalid.
    """
    texts = {name: text.strip() for name, text in form.fields if text.strip()}
    for name in ("name", "task", "file"):
        if name not in texts:
            raise InvalidRequest(f"{name} is missing: choose a file, and name the model and its task")
    values: dict[str, Any] = {name: texts[name] for name in ("name", "task", "accuracy", "max_batch") if name in texts}
    values |= {name: file_ref(texts[name]) for name in _FILES if name in texts}
    values |= {"variants": texts.get("variants", "").split(), "hold": "hold" in texts}
    if step := _first_step(texts):
        labels = [{"step": "top", "labels": file_ref(texts["labels"])["upload"]}] if "labels" in texts else []
        values["processing"] = {"before": step, "after": labels}
    try:
        return msgspec.convert(values, ModelToRegister, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{register.name}: {error}") from None


def file_ref(text: str) -> dict[str, str]:
    """Return the reference to an upload, written as `HASH NAME`. Pure."""
    upload, _, name = text.partition(" ")
    return {"name": name, "upload": upload}


def _first_step(texts: dict[str, str]) -> dict[str, Any] | None:
    """Return the step that converts texts or images, as the fields declare it; None if clients send tensors."""
    if "tokenizer" in texts:
        return {"step": "tokenise", "tokenizer": file_ref(texts["tokenizer"])["upload"]}
    if "image" not in texts:
        return None
    width, _, height = texts["image"].partition("x")
    return {"step": "image", "width": width, "height": height, "channels": texts.get("channels", "rgb")}
