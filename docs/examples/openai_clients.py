"""Embeddings, reranking and a batch by the clients of OpenAI, LiteLLM and LangChain, without changes to them.

    infaas register --zoo sentences
    pip install openai litellm langchain-openai
    python docs/examples/openai_clients.py

Each part is skipped if its package is not installed. `INFAAS_GATEWAY` names the gateway, and `INFAAS_KEY` a key if it
requires one.
"""

import importlib.util
import json
import os
import time

BASE = os.environ.get("INFAAS_GATEWAY", "http://127.0.0.1:8080").rstrip("/") + "/v1"
KEY = os.environ.get("INFAAS_KEY", "none")
TASK = "sentences"
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


if __name__ == "__main__":
    for package, use in (("openai", use_openai), ("litellm", use_litellm), ("langchain_openai", use_langchain)):
        if importlib.util.find_spec(package) is None:
            print(package, "is not installed")
        else:
            use()
