"""Flags, environment and `--check`."""

import pytest

from schemas.errors import OperatorError
from service.command import check_service, read_command
from service.settings import ServiceSettings


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFAAS_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("INFAAS_METRICS_PORT", "1")
    settings, check = read_command(ServiceSettings, "x", ["--metrics-port", "2", "--check"])
    assert (settings.log_level, settings.metrics_port, check) == ("DEBUG", 2, True)
    assert not read_command(ServiceSettings, "x", [])[1]


def test_a_wrong_value_names_its_flag() -> None:
    with pytest.raises(OperatorError, match="--metrics-port"):
        read_command(ServiceSettings, "x", ["--metrics-port", "70000"])


def test_an_unknown_flag_ends_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_command(ServiceSettings, "x", ["--nothing", "1"])
    assert "--nothing" in capsys.readouterr().err


async def test_check_prints_and_raises(capsys: pytest.CaptureFixture[str]) -> None:
    async def good() -> None: ...

    async def bad() -> None:
        raise OperatorError("Kafka is away")

    with pytest.raises(OperatorError, match="away"):
        await check_service([ServiceSettings()], {"Postgres": good, "Kafka": bad})
    shown = capsys.readouterr().out
    assert "metrics_port = 0" in shown
    assert "Postgres: ok" in shown
    assert "Kafka: ok" not in shown
