"""Turns prompts and chats into tokens, by the model's tokenizer and its template of chats.

A template is a program in jinja2's language, from the model's author. It is executed in jinja2's sandbox, which gives
it no access to Python. Its environment is that of Hugging Face's libraries, for which templates are written.
"""

import json
from datetime import datetime
from typing import Any, Final, NoReturn

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtimes.answer_progress import prompt_too_long
from runtimes.chat import decode_chat
from runtimes.decoder.settings import DecoderSettings
from runtimes.processing.steps import BYTES_A_TOKEN, load_tokenizer
from schemas.errors import InvalidRequest

_LOOP_CONTROLS: Final = "jinja2.ext.loopcontrols"
_SETTINGS: Final = {"add_generation_prompt": True, "tools": None, "documents": None}


class PromptReader:
    """Reader of the prompts and chats of one model."""

    def __init__(self, settings: DecoderSettings, most: int) -> None:
        """Load the tokenizer and the template of a model that takes at most `most` tokens of prompt and answer.

        Raises:
            OperatorError: the package `tokenizers` is not installed.
            InvalidRequest: the tokenizer or the template is damaged.
        """
        self.tokenizer: Any = load_tokenizer(settings.tokenizer.encode(), "tokenizer.json")
        self._most = most
        self._special = settings.special_tokens
        self._template = _compiled(settings.chat_template) if settings.chat_template else None

    def tokens(self, text: str, *, chat: bool) -> list[int]:
        """Return the tokens of a prompt or a chat.

        Raises:
            InvalidRequest: it is too long or empty, it is not a chat, the model takes none, or its template rejects it.
        """
        if len(text) > BYTES_A_TOKEN * self._most:
            raise InvalidRequest(f"the prompt has {len(text)} characters, too many for {self._most} tokens: shorten it")
        prompt = self._rendered(text) if chat else text
        # A template writes the special tokens itself.
        tokens: list[int] = self.tokenizer.encode(prompt, add_special_tokens=not chat).ids
        if not tokens:
            raise InvalidRequest("the prompt has no tokens: send one with a word")
        if len(tokens) >= self._most:
            raise prompt_too_long(len(tokens), self._most)
        return tokens

    def _rendered(self, text: str) -> str:
        messages = [{"role": message.role, "content": message.text} for message in decode_chat(text)]
        if self._template is None:
            raise InvalidRequest("this model has no template for chats: send a prompt, without the option chat")
        try:
            return self._template.render(messages=messages, **_SETTINGS, **self._special)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise InvalidRequest(f"the model does not accept this chat: {error}") from error


def _compiled(source: str) -> Template:
    environment: Any = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_LOOP_CONTROLS])
    environment.filters["tojson"] = _as_json
    environment.globals.update({"raise_exception": _reject, "strftime_now": _formatted_now})
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise InvalidRequest(f"the model's template for chats is damaged: {error}") from error


def _as_json(value: Any, **options: Any) -> str:
    """Return JSON without the escapes for HTML that jinja2's own filter makes."""
    settings: dict[str, Any] = {"ensure_ascii": False} | options
    return json.dumps(value, **settings)


def _reject(message: str) -> NoReturn:
    raise TemplateError(message)


def _formatted_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
