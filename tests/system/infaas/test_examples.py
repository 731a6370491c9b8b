"""Test of the examples: each runs as its header says, ignores foreign answers, and reports refusals."""

import asyncio
import shutil
import sys
from asyncio.subprocess import PIPE
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from tests.installed import npm_installed
from tests.kafka_fixtures import need_apache
from tests.processes import environment
from tests.system.infaas.conftest import Cli

pytestmark = [pytest.mark.needs_node, pytest.mark.needs_jdk]

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
PATIENCE_S = 180.0
ANSWERS = "reviews.answers"
REVIEWS = {b"good": b"a wonderful film", b"bad": b"an awful, boring film", b"broken": b"\xff\xfe"}
LABELS = {b"good": b'"positive"', b"bad": b'"negative"'}


QUIET_JAVA = ("-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
Command = tuple[str | Path, ...]


@pytest.fixture(scope="module")
def plain() -> dict[str, Command]:
    """Return the commands of the examples that use only the wire protocol."""
    return {
        "confluent-kafka": (sys.executable, EXAMPLES / "confluent_ask.py"),
        "java": (jdk(), *QUIET_JAVA, "-cp", f"{need_apache()}/*", EXAMPLES / "java" / "Ask.java"),
        "javascript": ("node", npm_installed(EXAMPLES / "javascript", "javascript", "ci") / "ask.js"),
    }


async def test_examples_answer_and_report_refusals(shared: Cli, plain: dict[str, Command]) -> None:
    kafka = (await shared.state())["kafka"]
    await shared.register_texts("sentiment-text")
    # loads the model, because the examples expect answers within seconds
    await shared.json("query", "textcnn", REVIEWS[b"good"].decode())
    names = ("reviews", "reviews.rated", "reviews.failed", ANSWERS)
    await ensure_topics(KafkaSettings(bootstrap=kafka), [TopicSpec(name) for name in names])
    async with asyncio.timeout(PATIENCE_S), stray_answers(kafka), asyncio.TaskGroup() as tasks:
        for name, command in plain.items():
            tasks.create_task(check_plain(name, command, kafka))
        tasks.create_task(check_consumers(kafka))


async def check_plain(name: str, command: Command, kafka: str) -> None:
    texts = [REVIEWS[b"good"].decode(), REVIEWS[b"bad"].decode()]
    code, out, err = await output_of(*command, *texts, INFAAS_KAFKA=kafka)
    assert (code, out.splitlines()) == (0, [f"{texts[0]}: positive", f"{texts[1]}: negative"]), f"{name}: {err}"
    code, out, err = await output_of(*command, *texts, INFAAS_KAFKA=kafka, MIN_ACCURACY="0.999")
    assert (code, out) == (1, ""), f"{name}: {err}"
    assert [text for text in texts if f"{text}: unsatisfiable: " in err] == texts, f"{name}: {err}"


async def check_consumers(kafka: str) -> None:
    """Assert the outputs of both consumers for the same reviews."""
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for key, text in REVIEWS.items():
            await producer.send_and_wait("reviews", text, key, headers=[("from", b"a test")])
    async with consumer(EXAMPLES / "aiokafka_reviews.py", kafka), consumer(EXAMPLES / "faststream_reviews.py", kafka):
        rated, failed = await read(kafka, "reviews.rated", 4), await read(kafka, "reviews.failed", 2)
    for ratings in rated.values():
        assert [record.key for record in ratings] == [b"good", b"bad"]
        for record in ratings:
            assert LABELS[record.key or b""] in (record.value or b"")
    assert [("from", b"a test") in record.headers for record in rated["aiokafka"]] == [True, True]
    for (record,) in failed.values():
        assert (record.key, record.value) == (b"broken", b"\xff\xfe")
        assert dict(record.headers)["error"].startswith(b"invalid_request: ")
    assert len(rated) == len(failed) == 2


async def read(kafka: str, topic: str, count: int) -> dict[str, list[ConsumerRecord[bytes | None, bytes | None]]]:
    """Return `count` records of a topic by the example that wrote them; FastStream adds headers of its own."""
    found = defaultdict[str, list[ConsumerRecord[bytes | None, bytes | None]]](list)
    async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest") as records:
        for _ in range(count):
            record: ConsumerRecord[bytes | None, bytes | None] = await anext(records)
            found["faststream" if "correlation_id" in dict(record.headers) else "aiokafka"].append(record)
    return found


@asynccontextmanager
async def consumer(script: Path, kafka: str) -> AsyncGenerator[None]:
    """Run a program while the context is open; fail the test at once if it ends earlier."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, env=environment({"INFAAS_KAFKA": kafka}), stderr=PIPE
    )

    async def watch() -> None:
        _, err = await process.communicate()
        assert stopped, err.decode()

    stopped = False
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        try:
            yield
        finally:
            stopped = True
            if process.returncode is None:
                process.terminate()


@asynccontextmanager
async def stray_answers(kafka: str) -> AsyncGenerator[None]:
    """Write answers that no client waits for, and invalid records, while the context is open."""

    async def write(producer: AIOKafkaProducer) -> None:
        late = [("infaas-id", b"asked-by-another"), ("infaas-status", b"ok")]
        while True:
            await producer.send_and_wait(ANSWERS, b'{"outputs": []}', headers=late)
            await producer.send_and_wait(ANSWERS, b"\xff")
            await asyncio.sleep(0.05)

    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer, asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write(producer))
        yield
        writing.cancel()


async def output_of(*command: str | Path, **variables: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(*command, env=environment(variables), stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def jdk() -> str:
    """Return the `java` of a JDK; the one of a runtime alone cannot compile."""
    compiler = shutil.which("javac")
    if compiler is None:
        pytest.skip("the Java example needs a JDK: apt-get install openjdk-17-jdk-headless")
    return str(Path(compiler).resolve().with_name("java"))
