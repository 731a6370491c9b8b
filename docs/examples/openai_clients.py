"""Chats, embeddings, reranking and a batch by the clients of OpenAI, LiteLLM and LangChain, without changes to them.

    infaas register --zoo sentences
    infaas register --zoo chat
    pip install openai litellm langchain-openai
    python docs/examples/openai_clients.py

Each part is skipped if its package is not installed, and embeddings or chats if there is no such task. `make
openai-clients` installs the locked versions of all three, and runs this on a system with tiny models.
`INFAAS_GATEWAY` names the gateway, and `INFAAS_KEY` a key if it requires one.
"""

import importlib.metadata
import importlib.util
import json
import os
import time
import urllib.request
from typing import Any

BASE = os.environ.get("INFAAS_GATEWAY", "http://127.0.0.1:8080").rstrip("/") + "/v1"
KEY = os.environ.get("INFAAS_KEY", "none")
TASK = "sentences"
CHAT = "chat"
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
TOKENS = 16
TEXTS = ["a wonderful film", "a great movie", "the tax law of 1987"]
ENDED = ("completed", "failed", "expired", "cancelled")


def use_openai() -> None:
    """Compute embeddings within a deadline, and the lines of a file in idle time."""
    from openai import OpenAI

    client = OpenAI(base_url=BASE, api_key=KEY)
    needs = {"latency_ms": 5000, "min_accuracy": 0.98}
    answer = client.embeddings.create(model=TASK, input=TEXTS, extra_body=needs)
    print("openai:", len(answer.data), "vectors of", len(answer.data[0].embedding), answer.usage.total_tokens, "tokens")
    lines = [
        {"custom_id": f"{number}", "method": "POST", "url": "/v1/embeddings", "body": {"model": TASK, "input": text}}
        for number, text in enumerate(TEXTS)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("texts.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    while batch.status not in ENDED:
        time.sleep(0.5)
        batch = client.batches.retrieve(batch.id)
    assert batch.output_file_id is not None
    answers = client.files.content(batch.output_file_id).text.splitlines()
    print("openai: batch", batch.status, "with", len(answers), "answers")


def use_litellm() -> None:
    """Compute embeddings, and order documents by a query."""
    import litellm  # pyright: ignore[reportMissingImports]

    answer = litellm.embedding(model=f"openai/{TASK}", input=TEXTS, api_base=BASE, api_key=KEY)
    print("litellm:", len(answer.data), "vectors of", len(answer.data[0]["embedding"]))
    ranked = litellm.rerank(
        model=f"hosted_vllm/{TASK}", query="a good film", documents=TEXTS, top_n=2, api_base=BASE, api_key=KEY
    )
    print("litellm: best documents", [result["index"] for result in ranked.results or []])


def use_langchain() -> None:
    """Compute embeddings; LangChain must send texts instead of token ids of OpenAI's models."""
    from langchain_openai import OpenAIEmbeddings  # pyright: ignore[reportMissingImports]

    encoder = OpenAIEmbeddings(base_url=BASE, api_key=KEY, model=TASK, check_embedding_ctx_length=False)
    vectors = encoder.embed_documents(TEXTS)
    print("langchain-openai:", len(vectors), "vectors of", len(vectors[0]))


def chat_by_openai() -> None:
    """Ask whole and in parts, within a time to the first token."""
    from openai import OpenAI

    client = OpenAI(base_url=BASE, api_key=KEY)
    options: dict[str, Any] = {"model": CHAT, "messages": QUESTION, "max_tokens": TOKENS, "temperature": 0}
    answer = client.chat.completions.create(**options, extra_body={"ttft_ms": 10_000})
    print("openai:", repr(answer.choices[0].message.content), "by", answer.system_fingerprint)
    chunks = [chunk.choices[0].delta.content for chunk in client.chat.completions.create(**options, stream=True)]
    print("openai: streamed", repr("".join(filter(None, chunks))))


def chat_by_litellm() -> None:
    """Ask whole and in parts."""
    import litellm  # pyright: ignore[reportMissingImports]

    options: dict[str, Any] = {"model": f"openai/{CHAT}", "messages": QUESTION, "max_tokens": TOKENS, "temperature": 0}
    whole = litellm.completion(**options, api_base=BASE, api_key=KEY)
    print("litellm:", repr(whole.choices[0].message.content))
    stream = litellm.completion(**options, api_base=BASE, api_key=KEY, stream=True)
    print("litellm: streamed", repr("".join(chunk.choices[0].delta.content or "" for chunk in stream)))


def chat_by_langchain() -> None:
    """Ask whole and in parts."""
    from langchain_openai import ChatOpenAI  # pyright: ignore[reportMissingImports]

    model = ChatOpenAI(base_url=BASE, api_key=KEY, model=CHAT, max_tokens=TOKENS, temperature=0)
    print("langchain-openai:", repr(model.invoke(QUESTION).content))
    print("langchain-openai: streamed", repr("".join(part.content for part in model.stream(QUESTION))))


CLIENTS = {
    "openai": (use_openai, chat_by_openai),
    "litellm": (use_litellm, chat_by_litellm),
    "langchain_openai": (use_langchain, chat_by_langchain),
}

if __name__ == "__main__":
    listed = urllib.request.Request(f"{BASE}/models", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(listed) as found:
        tasks = {model["task"] for model in json.load(found)["data"]}
    for package, (embed, chat) in CLIENTS.items():
        if importlib.util.find_spec(package) is None:
            print(package, "is not installed")
            continue
        print(package, importlib.metadata.version(package))
        if TASK in tasks:
            embed()
        if CHAT in tasks:
            chat()
