"""Tests of the namespace of a process: read once from its environment, part of every name, and validated."""

import os
import subprocess
import sys

import pytest

from broker.kafka.settings import KafkaSettings
from schemas.errors import OperatorError
from schemas.topics import is_namespace

_NAMES = """
from schemas import topics as t
public = {name: value for name, value in vars(t).items() if name.isupper() and name[0] != "_"}
print(*[value for value in public.values() if isinstance(value, str) and "." in value])
print(t.task_topic("x"), t.offline_topic("x"), t.variant_topic("x"), t.variant_group("x"), t.results_topic("x"))
print(t.reply_topic("x"), t.ingress_topic("x"), t.tenant_results_topic("x"), t.build_topic("x"))
print(t.batch_group("a", "b"))
print(t.task_of("staging.tasks.x.offline"), t.may_reply_to("staging.status"), t.may_reply_to("infaas.status"))
"""


def _run(namespace: str, source: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"INFAAS_KAFKA_NAMESPACE": namespace}
    return subprocess.run([sys.executable, "-c", source], env=env, capture_output=True, text=True, check=False)


def test_namespace_begins_every_name() -> None:
    done = _run("staging", _NAMES)
    *names, last = done.stdout.splitlines()
    found = " ".join(names).split()
    assert len(found) > 25
    assert [name for name in found if not name.startswith("staging.")] == []
    assert last == "x False True"


@pytest.mark.parametrize("text", ["", "a.b", "A", "a_b", "-a", "a" * 33])
def test_namespace_of_other_characters_is_refused(text: str) -> None:
    assert not is_namespace(text)
    done = _run(text, "from broker.kafka.settings import KafkaSettings; KafkaSettings()")
    assert done.returncode == 1
    assert "INFAAS_KAFKA_NAMESPACE" in done.stderr


def test_namespace_of_a_process_cannot_change() -> None:
    with pytest.raises(OperatorError, match="INFAAS_KAFKA_NAMESPACE=staging before its start"):
        KafkaSettings(namespace="staging")
