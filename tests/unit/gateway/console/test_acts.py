"""Tests of what every act of the console has: a confirmation in its forms, and a test in a browser that submits one."""

import re
from pathlib import Path

from jinja2 import Environment, nodes

from gateway.console.pages import ACTS

ROOT = Path(__file__).parents[4]
CONFIRM = {"button": 4, "form": 2}
"""Place of the text that asks for confirmation among the arguments of the macros for forms."""
OWN_HANDLERS = {"/console/models/register", "/console/tasks/{task}/ask"}
"""Forms that are more than an act."""
UNCONFIRMED = {"/console/keys/create", "/console/keys/limit", "/console/tenants/create", "/console/models/rollout"}
"""Acts that add something, or set a value that the same form sets back."""


def forms() -> list[tuple[str, bool]]:
    """Return the path of each form in the templates, and true if the form asks for confirmation."""
    found = list[tuple[str, bool]]()
    for template in (ROOT / "gateway/console/templates").iterdir():
        for call in Environment().parse(template.read_text()).find_all(nodes.Call):
            macro = call.node.attr if isinstance(call.node, nodes.Getattr) else ""
            if macro in CONFIRM:
                path = "".join(one.value for one in call.args[1].find_all(nodes.Const))
                asks = len(call.args) > CONFIRM[macro] or any(one.key == "confirm" for one in call.kwargs)
                found.append((path.replace("/tasks//", "/tasks/{task}/"), asks))
    return found


def test_forms_of_acts_ask_for_confirmation() -> None:
    """Forms without one belong to acts in the list of exceptions."""
    assert {f"/console{path}" for path, asks in forms() if not asks} == UNCONFIRMED | OWN_HANDLERS
    assert {f"/console{path}" for path, _ in forms()} == {act.path for act in ACTS} | OWN_HANDLERS


def test_acts_are_submitted_in_browser() -> None:
    """`submit` of a visitor fails unless the browser sends a form to the path that it names."""
    tests = (ROOT / "tests/system/infaas/console").glob("test_*.py")
    submitted = {path for one in tests for path in re.findall(r'\.submit\(\s*"([^"]+)"', one.read_text())}
    assert submitted == {act.path for act in ACTS} | OWN_HANDLERS
