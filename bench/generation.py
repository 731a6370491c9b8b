"""Language models beside the server of the same build: time to the first token, time of a token, tokens a second, CPU.

The bare server is llama.cpp's own, from the package of the runtime, with the same file, threads and places. One client
sends chats to both by OpenAI's API, each a new one as soon as the last has ended, and reads the tokens as they come.
The two take turns in each round. Prompts have the same length and differ from the first word on, so that no cache helps
either. Answers have different lengths, the same ones for both, since chats of one length would begin in step. They do
at first, so the times leave out the first answer of each. Chats name the options of sampling, since the defaults
differ: the bare server samples from the 40 likeliest tokens, ours from all, as OpenAI does, which takes 0.3 ms a token
longer.
"""

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import aiohttp
import psutil
from rich.console import Console

from bench.core.figures import Figure, at_least, at_most
from bench.core.programs import cpu_seconds
from bench.core.rounds import take_rounds
from bench.core.system import SystemUnderTest, infaas, running_system
from runtimes.gguf_header import read_gguf_header
from schemas.errors import OperatorError
from zoo.chat import QUESTIONS, SMOLLM, chat_model_file

CHATS: Final = (1, 4, 16)
"""Chats at once."""
SECONDS: Final = 20.0
TOKENS: Final = 48
"""Mean length of an answer."""
WITHIN: Final = 1.1
"""Largest ratio of a time to that of the bare server."""
_SEQUENCES: Final = max(CHATS)
_CONTEXT: Final = 512
_TASK: Final = "bench-chat"
_MODEL: Final = "bench-model"
_PROMPT: Final = "Tell me a long story about number {0}, and about a river, a mountain, a bird and a very old tree."
_TIMEOUT_S: Final = 120.0
_STRIDE: Final = 19
"""Step from the length of a chat to that of the next one."""
_SERVER: Final = """
import sys, xllamacpp
given = xllamacpp.CommonParams()
given.model.path = sys.argv[1]
given.n_parallel, given.n_ctx = int(sys.argv[2]), int(sys.argv[2]) * int(sys.argv[3])
given.cpuparams.n_threads = given.cpuparams_batch.n_threads = 1
given.fit_params, given.verbosity, given.n_gpu_layers = False, -1, 0
server = xllamacpp.Server(given)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


class Chats(NamedTuple):
    """Measurement of chats at once."""

    ttft_ms: float
    tpot_ms: float
    tokens_per_s: float
    cpu_ms: float
    """CPU milliseconds of a token, of all processes of the server."""


class EndedChat(NamedTuple):
    """Chat that has ended, as its client saw it."""

    ttft_s: float
    tpot_s: float
    tokens: int


class _Server(NamedTuple):
    url: str
    process: psutil.Process
    numbers: "itertools.count[int]"
    """Numbers of the chats that it was not asked yet."""


async def measure(system: SystemUnderTest, broker: str, console: Console) -> list[Figure]:
    """Measure the zoo's language model in the system, which must be up; nothing if its weights are not installed."""
    try:
        model = await asyncio.to_thread(chat_model_file, SMOLLM, system.home / "cache")
    except OperatorError as error:
        console.log(f"no language model is measured: {error}")
        return []
    return await measure_file(system, broker, console, model, QUESTIONS)


async def measure_file(
    system: SystemUnderTest, broker: str, console: Console, model: Path, questions: Path
) -> list[Figure]:
    """Measure a GGUF file in the system, and in the bare server."""
    flags = ["--sequences", str(_SEQUENCES), "--context", str(_CONTEXT), "--local"]
    await infaas(
        system.home, "register", str(model), "--task", _TASK, "--name", _MODEL, "--validation", str(questions), *flags,
        "--variant", _own_label(model),
    )  # fmt: skip
    await infaas(system.home, "scale", "pin", "task", _TASK, "--min", "1", "--max", "1")
    ours = _Server(system.gateway, psutil.Process(system.pid), itertools.count())
    async with bare_server(model) as bare, chat_session() as session:
        for server in (bare, ours):
            await ask(session, server.url, next(server.numbers))
        figures = list[Figure]()
        for count in CHATS:

            async def take(_number: int, count: int = count) -> tuple[Chats, Chats]:
                of_bare = await _round(session, bare, count)
                of_ours = await _round(session, ours, count)
                console.log(f"{count} chats: bare {of_bare}, ours {of_ours}")
                return of_ours, of_bare

            rounds = await take_rounds(take)
            figures += rounds.of(_figures(f"{count} chats at once", broker, *zip(*rounds.taken, strict=True)))
    return figures


def chat_session() -> aiohttp.ClientSession:
    """Return a client that connects for each chat: the bare server closes connections after some requests."""
    connector = aiohttp.TCPConnector(force_close=True)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(_TIMEOUT_S))


def _own_label(model: Path) -> str:
    return f"llamacpp-{read_gguf_header(model).precision}"


def _figures(at: str, broker: str, ours: Sequence[Chats], bare: Sequence[Chats]) -> list[Figure]:
    """Return the figures of the rounds of both."""
    own, base = (list(zip(*rounds, strict=True)) for rounds in (ours, bare))
    ttft, tpot, rate, cpu = range(len(Chats._fields))
    return [
        at_most(f"{at}: time to first token over llama-server", broker, own[ttft], "ms", base[ttft], WITHIN),
        at_most(f"{at}: time of a token over llama-server", broker, own[tpot], "ms", base[tpot], WITHIN),
        at_least(f"{at}: tokens", broker, own[rate], "/s", base[rate], 1 / WITHIN),
        at_most(f"{at}: CPU of a token", broker, own[cpu], "ms", base[cpu], WITHIN),
    ]


@asynccontextmanager
async def bare_server(model: Path) -> AsyncGenerator[_Server]:
    """Run llama.cpp's own server while the context is open."""
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SERVER, str(model), str(_SEQUENCES), str(_CONTEXT), stdin=pipe, stdout=pipe
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            url = (await process.stdout.readline()).decode().strip()
        yield _Server(url, psutil.Process(process.pid), itertools.count())
    finally:
        process.kill()
        await process.wait()


async def _round(session: aiohttp.ClientSession, server: _Server, count: int) -> Chats:
    before_s, began_s = sum(cpu_seconds(server.process).values()), time.monotonic()

    async def keep_asking() -> list[EndedChat]:
        ended = list[EndedChat]()
        while time.monotonic() - began_s < SECONDS:
            number = next(server.numbers)
            ended.append(await ask(session, server.url, number, tokens=_length(number)))
        return ended

    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(keep_asking()) for _ in range(count)]
    took_s, chats = time.monotonic() - began_s, [task.result() for task in asking]
    tokens = sum(one.tokens for chat in chats for one in chat)
    cpu_s = sum(cpu_seconds(server.process).values()) - before_s
    timed = [one for chat in chats for one in chat[1:]]
    return Chats(
        1e3 * median(one.ttft_s for one in timed),
        1e3 * median(one.tpot_s for one in timed),
        tokens / took_s,
        1e3 * cpu_s / tokens,
    )


def _length(number: int) -> int:
    """Return the tokens of the answer of a chat: from half to one and a half of the mean, in a mixed order."""
    return TOKENS // 2 + number * _STRIDE % (TOKENS + 1)


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    number: int,
    *,
    model: str = _TASK,
    tokens: int = TOKENS,
    headers: Mapping[str, str] | None = None,
) -> EndedChat:
    """Ask for one answer as it is made, to a prompt that differs from those of other numbers."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"{number}: {_PROMPT.format(number)}"}],
        "max_tokens": tokens,
        "temperature": 1.0,
        "top_k": 40,
        "top_p": 0.95,
        "seed": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began_s, first_s, last_s, made = time.monotonic(), 0.0, 0.0, 0
    async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
        response.raise_for_status()
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[len(b"data: ") :])
            if event.get("usage"):
                made = event["usage"]["completion_tokens"]
            if any(choice["delta"].get("content") for choice in event["choices"]):
                last_s = time.monotonic()
                first_s = first_s or last_s
    return EndedChat(first_s - began_s, (last_s - first_s) / max(made - 1, 1), made)


async def _main(model: Path, questions: Path) -> None:
    console = Console()
    async with running_system("embedded") as system:
        for figure in await measure_file(system, "embedded", console, model, questions):
            console.print(figure)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), Path(sys.argv[2])))
