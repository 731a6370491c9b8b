"""Test of a second replica: the variant's topics get a partition for it, and no query is lost or repeated."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
import trustme

from schemas.topics import task_topic, variant_topics
from tests.certificates import listener_files
from tests.doc_commands import block, changed, start_of
from tests.load import Pace
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import PATIENCE_S, partitions, results_of, topic_in, write, write_steadily
from tests.waiting import until

pytestmark = pytest.mark.needs_minutes

TASK = "replicated"
VARIANT = f"{TASK}-linear.onnx-fp32.cpu"
PARTITIONS = 4
RATE = 100.0
ASKED = 300
"""Queries of a part of the test."""
FLOOD = 1000
"""Queries written without pause, more than one replica should compute while the other is idle."""


def over_tls(folder: Path) -> list[str]:
    """Return the flags of `docs/security.md` for HTTPS; the clients of this test use Kafka alone."""
    authority = trustme.CA()
    files = listener_files(folder, authority, authority)
    own = {"cert.pem": files.certificate, "key.pem": files.key, "clients.pem": files.client_ca}
    text = changed(block("docs/security.md#0"), {f" {name}": f" {file}" for name, file in own.items()})
    return start_of(text).flags


async def test_second_replica_gets_partition_and_shares_load(hosted: Cli, tmp_path: Path) -> None:
    namespace = hosted.environment()["INFAAS_KAFKA_NAMESPACE"]
    topic, *topics = (topic_in(namespace, name) for name in (task_topic(TASK), *variant_topics(VARIANT)))
    async with hosted.up("--workers=2", "--cores-per-worker=1", "--oversubscribe", *over_tls(tmp_path)):
        kafka = (await hosted.state())["kafka"]
        await hosted.register("digits_linear.onnx", f"--name={TASK}-linear", task=TASK, data="digits")
        asked = set[str]()
        async with results_of(kafka, TASK, namespace) as results:
            await write_steadily(kafka, topic, "one", Pace(RATE, ASKED), PARTITIONS, asked)
            assert [await partitions(kafka, name) for name in topics] == [1, 1]

            steadily = write_steadily(kafka, topic, "two", Pace(RATE, ASKED), PARTITIONS, asked)
            await asyncio.gather(steadily, hosted.json("scale", "pin", "variant", VARIANT, "--min=2"))

            async def both_answer() -> bool:
                ids = [f"asked-{len(asked) + number}" for number in range(FLOOD)]
                asked.update(await write(kafka, topic, ids, PARTITIONS))
                await results.of(asked)
                return len(results.workers) == 2

            await until(both_answer, PATIENCE_S)
        assert results.seen == Counter(asked)
        assert [await partitions(kafka, name) for name in topics] == [2, 2]
