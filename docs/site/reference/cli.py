"""Page of the command line, made from its commands."""

import re
from collections.abc import Iterator
from typing import Any, Final

import typer.main

from infaas.cli.main import app
from reference.markdown import code, table

_BRACKETS: Final = re.compile(r"\[(.+?)\]")
_GLOBAL: Final = ("help", "install_completion", "show_completion")


def page() -> str:
    """Return the page."""
    group: Any = typer.main.get_command(app)
    return "# Command line\n\n" + "\n".join(_commands("infaas", group))


def _commands(words: str, command: Any) -> Iterator[str]:
    """Yield the section of a command, or of all commands of a group, by their names."""
    names = sorted(getattr(command, "commands", {}))
    if not names or getattr(command, "invoke_without_command", False):
        yield _section(words, command)
    for name in names:
        yield from _commands(f"{words} {name}", command.commands[name])


def _section(words: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and one.name not in _GLOBAL]
    usage = " ".join([words, *(["[OPTIONS]"] if options else []), *(_argument(one) for one in arguments)])
    rows = [(code(_argument(one)), one.help or "", "") for one in arguments]
    rows += [(code(", ".join([*one.opts, *one.secondary_opts])), one.help or "", _default(one)) for one in options]
    text = (command.help or "").partition("\f")[0].strip()
    return f"## {words}\n\n{text}\n\n```text\n{usage}\n```\n\n{table(('option', 'meaning', 'default'), rows)}"


def _argument(one: Any) -> str:
    name = (one.metavar or one.name).upper()
    name = found[1] if (found := _BRACKETS.fullmatch(name)) else name
    name = f"{name}..." if one.nargs != 1 and not name.endswith("...") else name
    return name if one.required else f"[{name}]"


def _default(one: Any) -> str:
    given = one.default
    if given is None or given is False or callable(given) or given in ((), []):
        return ""
    return code(getattr(given, "value", given))
