"""The command line of a service: every setting is a flag, `--check` asks whether it could start.

Flags are the settings' names in kebab case (`--port`, `--infaas-log-level`); a flag wins over its environment variable.
What a service stands on has settings of its own, from the environment alone: it is handed in, since nothing here knows
Kafka or Postgres.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from textwrap import fill
from typing import Any, Final, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource

from process.logs import configure_logging, said_format
from process.run import EXIT_FAILED, EXIT_OK, run_service
from process.settings import ServiceSettings
from process.start import CHECK
from schemas.errors import InfaasError, OperatorError

_WIDTH: Final = 80
_ABOUT: Final = f"""{CHECK} prints all settings and says whether the service could start.

What it stands on is named by the environment alone:"""
_Settings = TypeVar("_Settings", bound=BaseSettings)
_Service = TypeVar("_Service", bound=ServiceSettings)
_Broker = TypeVar("_Broker", bound=BaseSettings)
_Store = TypeVar("_Store", bound=BaseSettings)


class Dependency(NamedTuple, Generic[_Settings]):
    """Something that a service cannot run without, and how to check that it is there."""

    name: str
    settings: type[_Settings]
    check: Callable[[_Settings], Awaitable[object]]
    """Raises InfaasError when the part cannot be used."""


def run_command(
    module: str,
    settings_class: type[_Service],
    broker: Dependency[_Broker],
    store: Dependency[_Store],
    join: Callable[[_Broker, _Store], Awaitable[None]],
    serve: Callable[[_Service, _Broker, _Store, asyncio.Event], Awaitable[None]],
) -> int:
    """What `python -m module` does: run the service, or with `--check` say whether it could run.

    `join` checks, before the service serves, that the two dependencies are of one system.

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
    """The dependency's name, and the environment variables that set it."""
    names = ", ".join(_variables(part.settings))
    return fill(f"{part.name}: {names}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _variables(settings: type[BaseSettings]) -> Iterator[str]:
    prefix = settings.model_config.get("env_prefix", "")
    for name, field in settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseSettings):
            yield from _variables(kind)
        else:
            yield str(field.validation_alias or f"{prefix}{name}".upper())


def read_command(kind: type[_Settings], prog: str, argv: Sequence[str], about: str = "") -> tuple[_Settings, bool]:
    """The settings as flags and environment give them, and whether only a check is asked for.

    `about` ends the help text.

    Raises:
        OperatorError: a value is not allowed; the message names it.
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
    """Refuse a secret in the command line, which `ps` shows to every user of the machine."""
    for name, field in kind.model_fields.items():
        flag = _name((name,))
        if "SecretStr" in repr(field.annotation) and any(word.partition("=")[0] == flag for word in words):
            variable = field.validation_alias or f"{kind.model_config.get('env_prefix', '')}{name}".upper()
            raise OperatorError(f"every user of this machine sees what {flag} is given: set {variable} instead")


def _name(location: tuple[int | str, ...]) -> str:
    return "--" + ".".join(map(str, location)).lower().replace("_", "-")


async def check_service(settings: Sequence[BaseModel], checks: Mapping[str, Callable[[], Awaitable[object]]]) -> None:
    """Print the effective settings, secrets masked, then make each check and print that it holds.

    Raises:
        InfaasError: the first check that fails raises it.
    """
    for group in settings:
        for name, value in group.model_dump().items():
            print(f"{name} = {_shown(value)}")
    for name, check in checks.items():
        await check()
        print(f"{name}: ok")


def _shown(value: Any) -> str:
    return "" if value is None else str(value)
