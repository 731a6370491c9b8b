"""The command line of a service: every setting is a flag, `--check` asks whether it could start.

Flags are the settings' names in kebab case (`--port`, `--infaas-log-level`); a flag wins over its environment variable.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource

from schemas.errors import OperatorError

CHECK: Final = "--check"
_Settings = TypeVar("_Settings", bound=BaseSettings)


def read_command(kind: type[_Settings], prog: str, argv: Sequence[str]) -> tuple[_Settings, bool]:
    """The settings as flags and environment give them, and whether only a check is asked for.

    Raises:
        OperatorError: a value is not allowed; the message names it.
    """
    source: CliSettingsSource[Any] = CliSettingsSource(
        kind, cli_kebab_case=True, cli_prog_name=prog, case_sensitive=False, cli_exit_on_error=True
    )
    words = [word for word in argv if word != CHECK]
    try:
        return CliApp.run(kind, cli_args=words, cli_settings_source=source), CHECK in argv
    except ValidationError as error:
        raise OperatorError(
            "; ".join(f"{_name(problem['loc'])}: {problem['msg']}" for problem in error.errors())
        ) from None


def _name(location: tuple[int | str, ...]) -> str:
    return "--" + ".".join(map(str, location)).lower().replace("_", "-")


async def check_service(settings: Sequence[BaseModel], checks: Mapping[str, Callable[[], Awaitable[object]]]) -> None:
    """Print the effective settings, secrets masked, then make each check and print that it holds.

    Raises:
        InfaasError: of the first check that fails.
    """
    for group in settings:
        for name, value in group.model_dump().items():
            print(f"{name} = {_shown(value)}")
    for name, check in checks.items():
        await check()
        print(f"{name}: ok")


def _shown(value: Any) -> str:
    return "" if value is None else str(value)
