"""The end of `infaas demo --chat`: a language model of the zoo answers as soon as one of its variants is ready."""

import asyncio
from pathlib import Path
from typing import Final

from broker.kafka.settings import KafkaSettings
from infaas.cli.register import HERE, register_with_progress
from infaas.cli.system import announce
from infaas.cli.text_stream import print_stream
from infaas.client.client import QueryOptions
from infaas.up.ready_tasks import watch_tasks
from process.backoff import Backoff
from process.pauses import retry_until_reachable
from schemas.errors import QueryError

_QUESTION: Final = "Why is the sky blue? Answer in two sentences."
_ANSWER_TOKENS: Final = 80
_PATIENCE_S: Final = 120.0
_BACKOFF: Final = Backoff(first_s=0.1, longest_s=2.0)


async def answer_chat(kafka: KafkaSettings, postgres: str, gateway: str, home: Path) -> None:
    """Register a language model until one of its variants serves, and print an answer as it is made."""
    from zoo.chat import TASK

    announce("registering a language model: its first variant will answer")
    async with asyncio.TaskGroup() as tasks:
        registering = tasks.create_task(register_with_progress(kafka, postgres, home, (TASK,), threads=1, choice=HERE))
        await watch_tasks(postgres, [TASK], lambda _task: None)
        registering.cancel()
    announce(f"asking: {_QUESTION}")
    query = QueryOptions(
        max_tokens=_ANSWER_TOKENS, parameters={"temperature": 0.0}, explain=True, timeout_s=_PATIENCE_S
    )
    question = [{"role": "user", "content": _QUESTION}]
    # The worker may be full of the zoo's variants: the query itself demands a place. The gateway learns of the new task
    # a moment later.
    await retry_until_reachable(
        lambda: print_stream({"gateway": gateway}, TASK, question, query),
        QueryError,
        _BACKOFF,
        patience_s=_PATIENCE_S,
    )
