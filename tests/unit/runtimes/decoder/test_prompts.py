"""Tests of prompts and chats as tokens."""

import json
from datetime import datetime
from typing import Any

import pytest

from runtimes.decoder.prompts import PromptReader
from runtimes.decoder.settings import DecoderSettings
from schemas.errors import InvalidRequest
from tests.decoder_models import byte_tokenizer
from tests.gguf_models import SPECIAL, TEMPLATE

CHAT = [{"role": "user", "content": "hi"}]


def reader(template: str = TEMPLATE, **special: str) -> PromptReader:
    tokenizer = byte_tokenizer().to_str()
    return PromptReader(DecoderSettings(tokenizer=tokenizer, chat_template=template, special_tokens=special), 64)


def rendered(template: str, chat: Any = CHAT, **special: str) -> str:
    found = reader(template, **special)
    return found.tokenizer.decode(found.tokens(json.dumps(chat), chat=True), skip_special_tokens=False)


def test_prompt_and_chat_become_tokens() -> None:
    assert reader().tokens("hi", chat=False) == [104, 105]
    assert reader().tokens(json.dumps(CHAT), chat=True) == [257, 104, 105, 258]


def test_chat_of_parts_is_joined() -> None:
    chat = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert rendered(TEMPLATE, chat) == f"{SPECIAL[1]}a\nb{SPECIAL[2]}"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<s>hi"),
        (
            "{% for m in messages %}{% if loop.first %}\n  {{ m['role'] | tojson }}\n{% endif %}{% endfor %}",
            '  "user"\n',
        ),
        ("{% if tools is not none or documents %}tools{% endif %}{{ '<&>' | tojson }}", '"<&>"'),
        ("{% for m in [1, 2, 3] %}{% if m == 2 %}{% break %}{% endif %}{{ m }}{% endfor %}", "1"),
        ("{{ strftime_now('%Y') }}", str(datetime.now().astimezone().year)),
    ],
)
def test_template_has_environment_of_hugging_face(template: str, text: str) -> None:
    assert rendered(template, bos_token="<s>") == text


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "does not accept this chat: roles must alternate"),
        ("{{ messages[5].content + 1 }}", "does not accept this chat"),
        ("{{ messages.append(1) }}", "does not accept this chat"),
        ("{{ ''.__class__.__mro__ }}", "does not accept this chat"),
        ("", "no template for chats: send a prompt"),
    ],
)
def test_chat_is_refused_in_words(template: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        rendered(template)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "no tokens"),
        ("a" * 64, "has 64 tokens, but this model takes at most 64"),
        ("a" * 5000, "has 5000 characters, too many for 64 tokens"),
    ],
)
def test_prompt_without_room_is_refused(prompt: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        reader().tokens(prompt, chat=False)


def test_damaged_settings_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="template for chats is damaged"):
        reader("{% if %}")
    with pytest.raises(InvalidRequest, match=r"not a tokenizer\.json"):
        PromptReader(DecoderSettings(tokenizer="{}"), 1)
