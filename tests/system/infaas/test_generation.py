"""Tests of generative answers in a whole system: each is answered whole, though its processes are killed meanwhile.

The model counts, so that each token of an answer is known. Half of the streams are read by OpenAI's own client.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from infaas.client import InfaasClient
from schemas import headers as h
from schemas.status import SERVING
from tests.decoder_models import decoder_weights, write_decoder
from tests.doc_commands import block, run_commands
from tests.gguf_models import ALL_KNOWN, counted, write_gguf
from tests.system.infaas.client_example import check_example
from tests.system.infaas.conftest import Cli
from tests.system.infaas.counted_streams import (
    PATIENCE_S,
    TASK,
    TOKENS,
    by_openai_client,
    by_own_client,
    from_openai_client,
)
from tests.system.infaas.demo_chat import demo_chat
from tests.system.infaas.text_clients import (
    check_batch,
    check_chat,
    check_console,
    check_grpc_stream,
    check_response_format,
    check_seed,
    check_stop,
    check_tool,
)
from tests.system.infaas.worker_counts import drafts_of, ended_with
from tests.waiting import read_until

pytestmark = pytest.mark.needs_language_model

MODEL: Final = "tiny"
STREAMS: Final = 200
KILLED: Final = ("worker-cpu-0", "selector", "gateway")
CASCADE_TASK: Final = "alphabet"
CASCADE_ROWS: Final = 230
EASY, HARD = "R", "r"
"""Letters from which the models of a cascade count to the end of the alphabet; the small one knows large letters."""
ALPHABET: Final = 8


@pytest.fixture(scope="module")
def writing(pairs: Cli, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Register a tiny language model in a system with two of each service that answers queries."""
    folder = tmp_path_factory.mktemp("model")
    rows = [{"prompt": f"question {number}", "answer": "yes"} for number in range(12)]
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asyncio.run(registered(pairs, write_gguf(folder / "tiny.gguf", counts=True), folder / "labels.jsonl"))
    return pairs


async def registered(cli: Cli, model: Path, labels: Path) -> None:
    await cli.state()
    words = (f"--task={TASK}", f"--name={MODEL}", f"--validation={labels}", "--variant=llamacpp-fp16")
    await cli.json("register", str(model), *words)
    await cli.json("scale", "pin", "task", TASK, "--min=2")
    await read_until(lambda: cli.json("scale", "status"), serve_on_two, PATIENCE_S)


def serve_on_two(scale: Any, variant: str = f"{MODEL}.llamacpp-fp16.cpu") -> bool:
    serving = [one for one in scale["instances"] if one["state"] in SERVING and one["partitions"]]
    instances = [one for one in serving if one["variant"] == variant]
    return len({one["worker"] for one in instances}) == 2


async def test_killed_processes_lose_no_part_of_an_answer(writing: Cli) -> None:
    """A worker, a selector and a gateway are killed in the middle of 200 answers."""
    state = await writing.state()
    progress = asyncio.Semaphore(0)
    async with (
        asyncio.timeout(PATIENCE_S),
        InfaasClient(gateway=state["gateway"]) as http,
        InfaasClient(kafka=state["kafka"]) as kafka,
        AsyncOpenAI(base_url=f"{state['gateway']}/v1", api_key="me", timeout=PATIENCE_S) as other,
        asyncio.TaskGroup() as asking,
    ):

        def ask(number: int) -> asyncio.Task[str]:
            if number % 2:
                return asking.create_task(by_openai_client(other, number, progress))
            return asking.create_task(by_own_client((http, kafka)[number // 2 % 2], number, progress))

        streams = [ask(number) for number in range(STREAMS)]
        for name in KILLED:
            for _ in range(STREAMS * TOKENS // 8):  # some answers go on, others have not begun or have ended
                await progress.acquire()
            os.kill(state["services"][name]["pid"], signal.SIGKILL)
            assert not all(stream.done() for stream in streams)
    ids = Counter(stream.result() for stream in streams)
    assert ids == Counter(f"stream-{number}" for number in range(STREAMS))
    before = {name: state["services"][name]["pid"] for name in KILLED}
    await writing.state_when(lambda now: all(now["services"][name]["pid"] != pid for name, pid in before.items()))


async def test_disconnected_client_stops_worker(writing: Cli) -> None:
    """The worker gives the answer up when its client has left, long before its end."""
    state = await writing.state()
    async with asyncio.timeout(PATIENCE_S), InfaasClient(gateway=state["gateway"]) as client:

        async def left_early() -> Counter[str]:
            before = await ended_with(state)
            stream = client.stream(TASK, "hello", max_tokens=450, parameters={"ignore_eos": True})
            assert (await anext(stream)).text
            await stream.aclose()
            after = await read_until(lambda: ended_with(state), lambda now: now.total() > before.total())
            return after - before

        # An answer that ends before the worker's reply stream to the gateway is connected is computed to its end.
        await read_until(left_early, lambda ends: ends == Counter({"deadline_exceeded": 1}))


async def test_openai_client_gets_stream_and_whole(writing: Cli) -> None:
    state = await writing.state()
    async with AsyncOpenAI(base_url=f"{state['gateway']}/v1", api_key="me") as client:
        options: dict[str, Any] = {"model": TASK, "prompt": "hello", "max_tokens": 20, "temperature": 0}
        whole = await client.completions.create(**options)
        assert whole.usage is not None
        assert 0 < whole.usage.completion_tokens <= 20
        stream: Any = await client.completions.create(**options, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
        assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


async def test_openai_client_limits_answers(writing: Cli) -> None:
    """Limits by a grammar, by texts that end the answer, and by the seed of its sampling."""
    state = await writing.state()
    async with (
        asyncio.timeout(PATIENCE_S),
        AsyncOpenAI(base_url=f"{state['gateway']}/v1", api_key="me", timeout=PATIENCE_S) as client,
    ):
        await check_response_format(client)
        await check_stop(client)
        await check_seed(client)


async def test_openai_clients_chat_in_threads_and_batches(writing: Cli) -> None:
    state = await writing.state()
    with OpenAI(base_url=f"{state['gateway']}/v1", api_key="me", timeout=PATIENCE_S) as client:
        await asyncio.to_thread(check_chat, client, f"{MODEL}.llamacpp-fp16.cpu")
    async with AsyncOpenAI(base_url=f"{state['gateway']}/v1", api_key="me", timeout=PATIENCE_S) as other:
        await check_batch(other)


async def test_triton_client_gets_stream(writing: Cli) -> None:
    state = await writing.state()
    async with asyncio.timeout(PATIENCE_S):
        await check_grpc_stream(state["grpc"], 4 * TOKENS)  # made for so long that parts do not travel together


async def test_agent_states_needs_of_texts(writing: Cli) -> None:
    state = await writing.state()
    async with asyncio.timeout(PATIENCE_S), InfaasClient(gateway=state["gateway"]) as client:
        await check_tool(client)


async def test_console_asks_for_text(writing: Cli) -> None:
    await check_console((await writing.state())["gateway"])


async def test_commands_name_unit_of_costs(writing: Cli) -> None:
    wide = {"COLUMNS": "200"}
    async with asyncio.TaskGroup() as asking:
        query, explain = (
            asking.create_task(writing.run(command, TASK, "hello", "--max-tokens=3", **wide))
            for command in ("query", "explain")
        )
    for code, out, err in (query.result(), explain.result()):
        assert code == 0, err
        assert "per 1000 tokens" in out
    assert "cost/1000 tokens" in explain.result()[1]


async def test_demo_ends_with_answer_of_language_model(writing: Cli, tmp_path: Path) -> None:
    """The end of `infaas demo --chat`, after its table, with a tiny model in the place of the weights."""
    code, shown = await demo_chat(await writing.state(), writing.home, tmp_path)
    assert code == 0, shown
    assert "smollm2-135m.llamacpp" in shown
    assert "80 tokens, first token after" in shown


async def test_documented_commands_register_and_ask_language_models(writing: Cli, tmp_path: Path) -> None:
    """The commands of `docs/models.md`, `docs/generation.md` and `docs/batch.md`, on tiny models."""
    write_gguf(tmp_path / "model.gguf", counts=True)
    write_decoder(tmp_path / "qwen", decoder_weights(counts=True))
    rows = [{"prompt": f"question {number}", "answer": counted(str(number), 8)} for number in range(10)]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    own = {"model.gguf": "model.gguf --variant llamacpp-fp16", "register qwen": "register qwen --variant onnx-fp32"}
    await run_commands(block("docs/models.md#1"), tmp_path, writing.environment(), own)
    patient = {"--ttft-ms 1000": f"--ttft-ms {PATIENCE_S * 1e3:.0f}"}
    told = await run_commands(block("docs/generation.md#0"), tmp_path, writing.environment(), patient)
    assert told.strip()
    gateway = {"http://127.0.0.1:8080": (await writing.state())["gateway"]}
    streamed = await run_commands(block("docs/generation.md#2"), tmp_path, writing.environment(), gateway)
    assert "finish_reason" in streamed
    chats = [json.dumps([{"role": "user", "content": f"count on from {letter}"}]) for letter in "abc"]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, chats)))
    short = {"questions.jsonl": "chats.jsonl", "--max-tokens 80": "--max-tokens 3"}
    await run_commands(block("docs/batch.md#1"), tmp_path, writing.environment(), short)
    answers = list(map(json.loads, (tmp_path / "answers.jsonl").read_text().splitlines()))
    assert [one["outputs"]["completion_tokens"] for one in answers] == [3, 3, 3]


async def test_example_of_openai_clients_runs(writing: Cli, tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await check_example(writing, tmp_path)


async def test_folder_of_onnx_decoder_answers_chats(writing: Cli, tmp_path: Path) -> None:
    """A folder of Hugging Face's exporter is registered whole, and its variants answer as those of a GGUF file."""
    folder = write_decoder(tmp_path / "counting-model", decoder_weights(counts=True))
    rows = [{"prompt": f"question {number}", "answer": counted(str(number), 8)} for number in range(10)]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("--task=counting", f"--validation={tmp_path / 'labels.jsonl'}", "--sequences=2", "--context=256")
    variants = await writing.json("register", str(folder), *words)
    assert {(one["name"], one["state"]) for one in variants} == {
        ("counting-model.onnx-fp32.cpu", "ready"),
        ("counting-model.onnx-int8dyn.cpu", "ready"),
    }
    state = await writing.state()
    async with (
        asyncio.timeout(PATIENCE_S),
        InfaasClient(gateway=state["gateway"]) as client,
        AsyncOpenAI(base_url=f"{state['gateway']}/v1", api_key="me", timeout=PATIENCE_S) as other,
    ):
        parts = [part async for part in client.stream("counting", "prompt a", max_tokens=10)]
        assert "".join(part.text for part in parts) == counted("a", 10)
        told: list[Any] = [{"role": "user", "content": "count on from b"}]
        whole = await other.chat.completions.create(model="counting", messages=told, max_tokens=10)
        assert (whole.choices[0].finish_reason, whole.usage and whole.usage.prompt_tokens) == ("length", 17)
        schema: Any = {"type": "json_object"}
        with pytest.raises(openai.BadRequestError, match="cannot restrict an answer to a grammar"):
            await other.chat.completions.create(model="counting", messages=told, response_format=schema)


@pytest.fixture(scope="module")
def cascade(writing: Cli, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Register a small and a large model, and a cascade of them, which two workers serve; return its name."""
    return asyncio.run(registered_cascade(writing, tmp_path_factory.mktemp("cascade")))


async def registered_cascade(cli: Cli, folder: Path) -> str:
    letters = [EASY if number % 3 else HARD for number in range(CASCADE_ROWS)]
    rows = [{"prompt": f"{n} {letter}", "answer": counted(letter, ALPHABET)} for n, letter in enumerate(letters)]
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = (f"--task={CASCADE_TASK}", f"--validation={folder / 'labels.jsonl'}", "--variant=llamacpp-fp16")
    for name, known, layers in (("small", ord("a"), 8), ("large", ALL_KNOWN, 24)):
        file = write_gguf(folder / f"{name}.gguf", layers=layers, counts=True, known=known, ends="Zz")
        await cli.json("register", str(file), *words, "--sequences=4", "--context=512")
    stages = (f"--{place}={name}.llamacpp-fp16.cpu" for place, name in (("first", "small"), ("then", "large")))
    (made,) = await cli.json("cascade", CASCADE_TASK, *stages, "--min-accuracy=1", words[1])
    assert made["profile"]["accuracy"] == 1.0
    assert 0 < made["profile"]["generation"]["escalated"] < 0.5
    variant = made["variant"]["name"]
    await cli.json("scale", "pin", "variant", variant, "--min=2")
    await read_until(lambda: cli.json("scale", "status"), partial(serve_on_two, variant=variant), PATIENCE_S)
    return variant


async def check_cascade(client: InfaasClient, variant: str, prompt: str, *, streamed: bool) -> None:
    """Ask for one answer, of whichever stage, and check each of its tokens."""
    expected = counted(prompt, ALPHABET)
    options: dict[str, Any] = {"target": variant, "parameters": {"temperature": 0}, "max_tokens": 60}
    options |= {"ttft_ms": PATIENCE_S * 1e3, "timeout_s": PATIENCE_S}
    if not streamed:
        answer = await client.infer(CASCADE_TASK, {"text_input": [prompt]}, **options)
        assert answer.outputs["text_output"][0].decode() == expected
        assert answer.variant == variant
        return
    text, answer = "", None
    async for part in client.stream(CASCADE_TASK, prompt, **options):
        text += part.text
        assert expected.startswith(text), "nothing of a draft"
        answer = part.answer or answer
    assert answer is not None
    assert text == expected == answer.outputs["text_output"][0].decode()
    assert answer.outputs["completion_tokens"][0] == ALPHABET + 1, "with the token of the end"


async def test_cascade_escalates_answers_of_unsure_model(writing: Cli, cascade: str) -> None:
    state = await writing.state()
    async with (
        asyncio.timeout(PATIENCE_S),
        InfaasClient(gateway=state["gateway"]) as http,
        InfaasClient(kafka=state["kafka"]) as kafka,
        AsyncOpenAI(base_url=f"{state['gateway']}/v1", api_key="me", timeout=PATIENCE_S) as other,
    ):
        before = await drafts_of(state)
        async with asyncio.TaskGroup() as asking:
            for number in range(24):
                client, letter = (http, kafka)[number % 2], (EASY, HARD)[number // 2 % 2]
                asking.create_task(check_cascade(client, cascade, f"{number} {letter}", streamed=number % 3 > 0))
        assert await drafts_of(state) - before == 12 * 60, "half of the drafts were discarded"
        chunks = await other.completions.create(
            model=cascade, prompt=f"go on from {HARD}", stream=True, temperature=0, max_tokens=60, logprobs=1,
            stream_options={"include_usage": True}, extra_headers={h.TTFT_MS: str(PATIENCE_S * 1e3)},
        )  # fmt: skip
        found = [chunk async for chunk in chunks]
        shown = [choice for chunk in found for choice in chunk.choices]
        assert "".join(choice.text for choice in shown) == counted(HARD, ALPHABET)
        values = [value for one in shown if one.logprobs for value in one.logprobs.token_logprobs or ()]
        assert len(values) == ALPHABET + 1
        assert all(value > -0.1 for value in values), "those of the model that answered"
        usage = found[-1].usage
        assert usage is not None
        assert usage.completion_tokens == ALPHABET + 1


async def test_client_that_leaves_during_draft_stops_worker(writing: Cli, cascade: str) -> None:
    """Nothing of the answer was shown yet; the draft ends early, and the second stage does not begin."""
    state = await writing.state()
    async with asyncio.timeout(PATIENCE_S), InfaasClient(gateway=state["gateway"]) as client:
        options: dict[str, Any] = {"target": cascade, "max_tokens": 450, "ttft_ms": PATIENCE_S * 1e3}
        options["parameters"] = {"ignore_eos": True, "temperature": 0}

        async def left_early() -> Counter[str]:
            before = await ended_with(state)
            stream = client.stream(CASCADE_TASK, f"prompt {HARD}", **options)
            begun = asyncio.ensure_future(anext(stream))
            await asyncio.wait({begun}, timeout=0.1)
            shown = begun.done()
            begun.cancel()
            await asyncio.wait({begun})
            await stream.aclose()
            after = await read_until(lambda: ended_with(state), lambda now: now.total() > before.total())
            return after - before if not shown else Counter()

        drafts = await drafts_of(state)
        await read_until(left_early, lambda ends: ends == Counter({"deadline_exceeded": 1}))
        assert (await drafts_of(state) - drafts) % 450 == 0, "no part of a draft counts as discarded"


async def test_killed_worker_loses_no_answer_of_cascade(writing: Cli, cascade: str) -> None:
    """One of two workers is killed among 100 streams of OpenAI's client, of which half escalate."""
    state, progress = await writing.state(), asyncio.Semaphore(0)
    killed = state["services"][KILLED[0]]["pid"]
    options: dict[str, Any] = {"model": cascade, "max_tokens": 60, "temperature": 0}
    options["headers"] = {h.TTFT_MS: str(PATIENCE_S * 1e3)}
    prompts = [f"{number} {(EASY, HARD)[number % 2]}" for number in range(100)]
    async with (
        asyncio.timeout(PATIENCE_S),
        AsyncOpenAI(base_url=f"{state['gateway']}/v1", api_key="me", timeout=PATIENCE_S) as client,
        asyncio.TaskGroup() as asking,
    ):
        streams = {
            prompt: asking.create_task(
                from_openai_client(
                    client, f"cascade-{prompt}", counted(prompt, ALPHABET), progress, prompt=prompt, **options
                )
            )
            for prompt in prompts
        }
        for _ in prompts:  # few tokens: a busy client reads late, and all must not have ended by then
            await progress.acquire()
        os.kill(killed, signal.SIGKILL)
        assert not all(stream.done() for stream in streams.values())
    made = {prompt: stream.result() for prompt, stream in streams.items()}
    assert made == {prompt: (counted(prompt, ALPHABET), "stop", ALPHABET + 1) for prompt in prompts}
    await writing.state_when(lambda now: now["services"][KILLED[0]]["pid"] != killed)
