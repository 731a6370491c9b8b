"""Tests of a service's command line: flags, environment variables and `--check`."""

import asyncio
import sys

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from process.command_line import Dependency, read_command, run_command
from process.settings import ServiceSettings
from schemas.errors import OperatorError


def test_read_command_prefers_flags_to_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFAAS_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("INFAAS_METRICS_PORT", "1")
    settings, check = read_command(ServiceSettings, "x", ["--metrics-port", "2", "--check"])
    assert (settings.log_level, settings.metrics_port, check) == ("DEBUG", 2, True)
    assert not read_command(ServiceSettings, "x", [])[1]


def test_read_command_names_flag_of_invalid_value() -> None:
    with pytest.raises(OperatorError, match="--metrics-port"):
        read_command(ServiceSettings, "x", ["--metrics-port", "70000"])


class _PartSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="INFAAS_PART_")

    place: str = "here"


async def _there(settings: _PartSettings) -> None:
    assert settings.place == "here"


async def _away(settings: _PartSettings) -> None:
    raise OperatorError(f"nothing answers {settings.place}")


@pytest.mark.parametrize(("flags", "code", "served"), [([], 0, 1), (["--check"], 0, 0), (["--metrics-port=-1"], 1, 0)])
def test_run_command_checks_or_serves(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], code: int, served: int
) -> None:
    seen: list[tuple[str, str]] = []

    async def serve(own: ServiceSettings, first: _PartSettings, second: _PartSettings, stop: asyncio.Event) -> None:
        assert not stop.is_set()
        seen.append((first.place, second.place))

    joins: list[str] = []

    async def joined(first: _PartSettings, _second: _PartSettings) -> None:
        joins.append(first.place)

    monkeypatch.setattr(sys, "argv", ["x", *flags])
    part = Dependency("Kafka", _PartSettings, _there)
    assert run_command("x", ServiceSettings, part, part, joined, serve) == code
    assert seen == [("here", "here")] * served
    assert joins == ([] if code else ["here"])


def test_run_command_check_fails_without_dependency(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(*_: object) -> None:
        raise AssertionError("a check serves nothing")

    monkeypatch.setattr(sys, "argv", ["x", "--check"])
    parts = Dependency("Kafka", _PartSettings, _there), Dependency("Postgres", _PartSettings, _away)
    assert run_command("x", ServiceSettings, *parts, serve, serve) == 1
    shown = capsys.readouterr().out
    assert "metrics_port = 0" in shown
    assert "Kafka: ok" in shown
    assert "Postgres: ok" not in shown
    assert "nothing answers here" in caplog.text


class _Secretive(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="INFAAS_OFFICE_")
    signing_key: SecretStr | None = None


@pytest.mark.parametrize("words", [["--signing-key", "hush"], ["--signing-key=hush"]])
def test_read_command_refuses_secret_as_flag(words: list[str]) -> None:
    with pytest.raises(OperatorError, match="INFAAS_OFFICE_SIGNING_KEY") as caught:
        read_command(_Secretive, "x", words)
    assert "hush" not in str(caught.value)
