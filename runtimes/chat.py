"""Chats as the input of a language model: a JSON list of messages, as in OpenAI's API, with texts only.

A runtime must not read images or sounds of a message: their addresses may be any URL, or a file.
"""

from typing import Final

import msgspec

from schemas.errors import InvalidRequest


class _ChatText(msgspec.Struct, frozen=True):
    text: str
    type: str = "text"


class ChatMessage(msgspec.Struct, frozen=True):
    """Message of a chat, as in OpenAI's API, with texts only."""

    role: str
    content: str | list[_ChatText]

    @property
    def text(self) -> str:
        """Its content as one text."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


_chat: Final = msgspec.json.Decoder(list[ChatMessage])


def decode_chat(text: str | bytes) -> list[ChatMessage]:
    """Return the messages of a chat.

    Raises:
        InvalidRequest: it is not a JSON list of messages with texts.
    """
    try:
        messages = _chat.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"a chat must be a JSON list of messages with role and content: {error}") from error
    if not messages:
        raise InvalidRequest("a chat must have at least one message")
    for message in messages:
        for part in message.content if isinstance(message.content, list) else ():
            if part.type != "text":
                raise InvalidRequest(f"a chat may contain texts only, not {part.type[:40]!r}")
    return messages


def is_chat(text: bytes) -> bool:
    """Return true if a text of labelled data is a chat."""
    try:
        return bool(decode_chat(text))
    except InvalidRequest:
        return False
