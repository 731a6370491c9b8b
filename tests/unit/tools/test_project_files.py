"""Tests of files that only foreign programs read: the commands, tools and make targets that they name exist."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
VERBS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def _yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def _verbs_named(text: str) -> set[str]:
    return set(re.findall(r"\bmake ([a-z-]+)", text))


def test_hooks_run_tools_of_the_checkout() -> None:
    (repo,) = _yaml(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local", "nothing is downloaded"
    for hook in repo["hooks"]:
        tool, *words = hook["entry"].split()
        assert os.access(ROOT / tool, os.X_OK), hook["id"]
        assert all((ROOT / word).is_file() for word in words if word.endswith(".py")), hook["id"]


def test_workflow_runs_the_local_ci_script() -> None:
    (job,) = _yaml(".github/workflows/ci.yml")["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == [".ci/run"]
    assert os.access(ROOT / commands[0], os.X_OK)
    assert _verbs_named((ROOT / commands[0]).read_text()) <= VERBS


def test_devcontainer_runs_make_setup() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert _verbs_named(container["postCreateCommand"]) == {"setup"} <= VERBS
    assert any(feature.endswith("java:1") and asked["installMaven"] for feature, asked in container["features"].items())


@pytest.mark.parametrize("path", ["CONTRIBUTING.md", ".github/PULL_REQUEST_TEMPLATE.md"])
def test_contributor_pages_name_existing_make_targets(path: str) -> None:
    named = _verbs_named((ROOT / path).read_text())
    assert named
    assert named <= VERBS


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_issue_form_is_complete(form: Path) -> None:
    content = yaml.safe_load(form.read_text())
    if form.name == "config.yml":
        assert content["blank_issues_enabled"]
        return
    assert {"name", "description", "body"} <= set(content)
    assert len({field["id"] for field in content["body"]}) == len(content["body"])
