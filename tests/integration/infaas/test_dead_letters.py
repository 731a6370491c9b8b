"""Tests of `infaas dead-letters` with invalid arguments; `admin/test_dead_letters.py` tests what the commands do."""

import asyncio

import pytest

from broker.kafka.settings import ENV, KafkaSettings
from broker.kafka.topics import ensure_system_topics
from infaas.cli.output import EXIT_SETUP
from tests.unit.infaas.shell import Shell


@pytest.mark.parametrize(
    ("words", "said"),
    [(("show", "0/999999999"), "0/999999999"), (("show", "x"), "'x'"), (("list", "--since", "soon"), "soon")],
)
def test_dead_letters_refuse_invalid_arguments(
    kafka: KafkaSettings, connected: Shell, words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV, kafka.bootstrap)
    asyncio.run(ensure_system_topics(kafka))
    shown = connected("dead-letters", *words)
    assert (shown.exit_code, said in shown.stderr) == (EXIT_SETUP, True), shown.stderr
