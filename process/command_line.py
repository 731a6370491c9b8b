"""The command line of a service: every setting is a flag, and `--check` checks whether the service could start.

Flags are the names of the settings in kebab case (`--port`, `--infaas-log-level`). A flag overrides its environment
variable. The settings of Kafka and Postgres come from the environment alone; they are passed in as `Dependency`, since
this package imports neither client.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from textwrap import fill
from typing import Any, Final, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource

from process.logs import configure_logging, said_format
from process.run import EXIT_FAILED, EXIT_OK, run_service
from process.settings import ServiceSettings
from process.start import CHECK
from schemas.errors import InfaasError, OperatorError

_WIDTH: Final = 80
_ABOUT: Final = f"""{CHECK} prints all settings and says whether the service could start.

Environment variables of its dependencies:"""
_Settings = TypeVar("_Settings", bound=BaseSettings)
_Service = TypeVar("_Service", bound=ServiceSettings)
_Broker = TypeVar("_Broker", bound=BaseSettings)
_Store = TypeVar("_Store", bound=BaseSettings)


class Dependency(NamedTuple, Generic[_Settings]):
    """A system that a service needs in order to run, and the check that it is usable."""

    name: str
    settings: type[_Settings]
    check: Callable[[_Settings], Awaitable[object]]
    """Raises InfaasError if the system cannot be used."""


def run_command(
    module: str,
    settings_class: type[_Service],
    broker: Dependency[_Broker],
    store: Dependency[_Store],
    join: Callable[[_Broker, _Store], Awaitable[None]],
    serve: Callable[[_Service, _Broker, _Store, asyncio.Event], Awaitable[None]],
) -> int:
    """Run the service of `python -m module`, or with `--check` check whether it could start.

    `join` checks, before the service serves, that the two dependencies belong to the same system.

    Returns:
        The exit code.
    """
    configure_logging(form=said_format())
    try:
        about = "\n".join([_ABOUT, *map(_described, (broker, store))])
        settings, check = read_command(settings_class, f"python -m {module}", sys.argv[1:], about)
        kafka, postgres = broker.settings(), store.settings()
        if check:
            checks = {
                broker.name: partial(broker.check, kafka),
                store.name: partial(store.check, postgres),
                "One system": partial(join, kafka, postgres),
            }
            asyncio.run(check_service([settings, kafka, postgres], checks))
            return EXIT_OK
    except InfaasError as error:
        logging.error("%s", error)
        return EXIT_FAILED

    async def joined(stop: asyncio.Event) -> None:
        await join(kafka, postgres)
        if not stop.is_set():
            await serve(settings, kafka, postgres, stop)

    return run_service(
        joined,
        drain_timeout_s=settings.drain_timeout_s,
        log_level=settings.log_level,
        log_format=settings.log_format,
        hang_s=settings.hang_s,
    )


def _described(part: Dependency[Any]) -> str:
    """Return the name of a dependency and the environment variables that configure it."""
    names = ", ".join(name for name, _ in settings_variables(part.settings))
    return fill(f"{part.name}: {names}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def settings_variables(kind: type[BaseSettings]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the environment variables that set the fields of a settings class, and of classes within it."""
    prefix = kind.model_config.get("env_prefix", "")
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseSettings):
            yield from settings_variables(inner)
        else:
            yield str(field.validation_alias or f"{prefix}{name}".upper()), field


def read_command(kind: type[_Settings], prog: str, argv: Sequence[str], about: str = "") -> tuple[_Settings, bool]:
    """Return the settings from flags and environment, and true if `--check` was given.

    `about` is the epilog of the help text.

    Raises:
        OperatorError: a value is invalid, or a flag holds a secret; the message names the setting.
    """
    source: CliSettingsSource[Any] = CliSettingsSource(
        kind, cli_kebab_case=True, cli_prog_name=prog, case_sensitive=False, cli_exit_on_error=True
    )
    source.root_parser.epilog = about
    words = [word for word in argv if word != CHECK]
    _refuse_secrets(kind, words)
    try:
        return CliApp.run(kind, cli_args=words, cli_settings_source=source), CHECK in argv
    except ValidationError as error:
        raise OperatorError(
            "; ".join(f"{_name(problem['loc'])}: {problem['msg']}" for problem in error.errors())
        ) from None


def _refuse_secrets(kind: type[BaseSettings], words: Sequence[str]) -> None:
    """Raise OperatorError if a flag holds a secret, since `ps` shows the command line to every user of the machine."""
    for name, field in kind.model_fields.items():
        flag = _name((name,))
        if "SecretStr" in repr(field.annotation) and any(word.partition("=")[0] == flag for word in words):
            variable = field.validation_alias or f"{kind.model_config.get('env_prefix', '')}{name}".upper()
            raise OperatorError(f"{flag} shows its value to every user of this machine: set {variable} instead")


def _name(location: tuple[int | str, ...]) -> str:
    return "--" + ".".join(map(str, location)).lower().replace("_", "-")


async def check_service(settings: Sequence[BaseModel], checks: Mapping[str, Callable[[], Awaitable[object]]]) -> None:
    """Print the effective settings with secrets masked, then run each check and print its success.

    Raises:
        InfaasError: a check failed; later checks are not run.
    """
    for group in settings:
        for name, value in group.model_dump().items():
            print(f"{name} = {_shown(value)}")
    for name, check in checks.items():
        await check()
        print(f"{name}: ok")


def _shown(value: Any) -> str:
    return "" if value is None else str(value)
