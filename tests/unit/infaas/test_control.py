"""What a gateway answers, as the errors that a command would raise by itself."""

import pytest

from broker.settings import ENV as KAFKA_ENV
from infaas.cli.control import gateway_error
from infaas.supervisor.options import POSTGRES_ENV
from schemas.errors import (
    Forbidden,
    InfaasError,
    InvalidRequest,
    NotFound,
    OperatorError,
    Unauthenticated,
    UnknownTask,
)
from schemas.headers import STATUS
from schemas.result import error_value
from tests.unit.infaas.shell import Shell

URL = "http://user:secret@127.0.0.1:1"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", InvalidRequest),
        (401, "unauthenticated", Unauthenticated),
        (403, "forbidden", Forbidden),
        (404, "invalid_request", NotFound),
        (404, "unknown_task", UnknownTask),
        (409, "invalid_request", OperatorError),
        (500, "internal", OperatorError),
        (503, "overloaded", OperatorError),
        (504, "deadline_exceeded", OperatorError),
    ],
)
def test_each_status_is_the_error_that_it_was_there(status: int, code: str, kind: type[InfaasError]) -> None:
    error = gateway_error(URL, status, {STATUS: code}, error_value("it is as it is"))
    assert type(error) is kind
    assert str(error).startswith("it is as it is")


def test_who_is_no_gateway_of_ours_is_named_without_a_password() -> None:
    error = gateway_error(URL, 404, {}, b"<html>")
    assert (type(error), str(error)) == (
        OperatorError, "http://127.0.0.1:1 answers 404: is it a gateway of this system?"
    )  # fmt: skip


def test_a_key_that_is_none_is_said_and_not_shown(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFAAS_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("INFAAS_KEY", "infaas_1 secret")
    shown = shell("lag")
    assert (shown.exit_code, "what no key does" in shown.stderr, "secret" in shown.stderr) == (1, True, False)


@pytest.mark.parametrize("words", [("cascade", "digits", "--find"), ("chain", "both", "one", "other")])
def test_what_makes_composites_does_not_take_the_system_of_this_home_for_the_one_that_is_named(
    words: tuple[str, ...], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(POSTGRES_ENV, "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv(KAFKA_ENV, "127.0.0.1:1")
    monkeypatch.setenv("INFAAS_URL", URL)
    shown = shell(*words)
    assert (shown.exit_code, "not over the gateway of INFAAS_URL" in " ".join(shown.stderr.split())) == (1, True)
