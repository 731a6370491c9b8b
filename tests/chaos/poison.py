"""Harmful records and queries: each is meant to damage more than its own query."""

import random
import struct
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from bench.load.pace import record_of, small_query
from schemas import headers as h
from schemas.oip import encode_request
from schemas.topics import STATUS
from zoo.samples import labelled

Headers = list[tuple[str, bytes]]

_STAND_IN: Final = b"infaas-stand-in"
_CRC_AT: Final = 17
"""Offset of the checksum in a record batch; it covers all bytes after it."""
LARGEST: Final = 16 * 2**20
CRASHES, HANGS, LEAKS, FAILS = 101.0, 102.0, 103.0, 104.0
"""First value of an input on which the model crashes its process, never ends, keeps 50 MiB, or raises."""

MODEL_FAULTS: Final = f"""
import os, signal, threading
from runtimes import onnx
infer, kept = onnx.OnnxSession.infer, []
def faulty(self, inputs):
    first = {{float(value) for array in inputs.values() for value in array.reshape(len(array), -1)[:, 0]}}
    if {CRASHES} in first:
        os.kill(os.getpid(), signal.SIGKILL)
    if {HANGS} in first:
        threading.Event().wait()
    if {LEAKS} in first:
        kept.append(b"x" * 50 * 2**20)
    if {FAILS} in first:
        raise RuntimeError("the device is gone")
    return infer(self, inputs)
onnx.OnnxSession.infer = faulty
"""
"""A `sitecustomize` module for workers: the runtime is real except for these inputs."""


def poisoned_query(first: float) -> tuple[bytes, Headers]:
    """Return a valid query on which the model fails."""
    inputs, _labels = labelled("digits")
    one = {name: array[:1].copy() for name, array in inputs.items()}
    for array in one.values():
        array.reshape(-1)[0] = first
    return record_of(encode_request(one))


def odd_records(run: str, seed: int) -> list[tuple[str, bytes | None, Headers]]:
    """Return some 200 malformed records: id, value and headers. Each with an id must get a result or a dead letter."""
    rng = random.Random(seed)
    value, headers = small_query()
    named = [(f"{run}-odd-{number}", rng.randbytes(rng.randrange(200))) for number in range(120)]
    odd: list[tuple[str, bytes | None, Headers]] = [(name, junk, _with(name, headers)) for name, junk in named]
    odd += [
        (f"{run}-odd-long-reply", value, _with(f"{run}-odd-long-reply", headers, (h.REPLY_TO, b"x" * 40_000))),
        (f"{run}-odd-path", value, _with(f"{run}-odd-path", headers, (h.REPLY_TO, b"../../etc/passwd"))),
        (f"{run}-odd-own", value, _with(f"{run}-odd-own", headers, (h.REPLY_TO, STATUS.encode()))),
        (f"{run}-odd-missing", value, _with(f"{run}-odd-missing", headers, (h.REPLY_TO, b"no.such.topic"))),
        (f"{run}-odd-nothing", None, _with(f"{run}-odd-nothing", headers)),
        (f"{run}-odd-rows", *_many_rows(f"{run}-odd-rows")),
        ("", value, [(h.ID, b"\xff\xfe not utf-8"), *headers]),
        ("", value, [(h.ID, b"i" * 5_000), *headers]),
        ("", value, headers),
        ("", b"{", [("content-type", b"application/cloudevents+json")]),
    ]
    for below in (250, 400, 4_000):
        name = f"{run}-odd-large-{below}"
        odd.append((name, bytes(LARGEST - below), _with(name, [])))
    odd += [(name, value, [*_with(name, headers), *_odd_headers(rng)]) for name in _names(run, 60)]
    return odd


async def send_odd_key(producer: AIOKafkaProducer, query_id: str, topic: str) -> None:
    """Send a record with a header name that is not UTF-8; no client library writes it, but any program may."""
    value, headers = small_query()
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=0,
        batch_size=len(value) + 4096,
    )  # fmt: skip
    fixed: list[tuple[str, bytes | None]] = [(h.ID, query_id.encode()), *headers, (_STAND_IN.decode(), b"x")]
    builder.append(0, int(time.time() * 1000), None, value, fixed)
    batch = bytearray(builder.build())
    where = batch.index(_STAND_IN)
    batch[where : where + len(_STAND_IN)] = bytes([0xFF]) * len(_STAND_IN)
    batch[_CRC_AT : _CRC_AT + 4] = struct.pack(">I", calc_crc32c(batch[_CRC_AT + 4 :]))
    node = producer.client.cluster.leader_for_partition(TopicPartition(topic, 0))
    assert node is not None
    await producer.client.send(node, ProduceRequest(None, -1, 10_000, [(topic, [(0, bytes(batch))])]))


def _many_rows(query_id: str) -> tuple[bytes, Headers]:
    inputs, _labels = labelled("digits")
    rows = {name: np.repeat(array[:1], 12_000, axis=0) for name, array in inputs.items()}
    value, form = record_of(encode_request(rows))
    return value, [(h.ID, query_id.encode()), (h.BATCH, b"12000"), *form]


def _with(query_id: str, headers: Sequence[tuple[str, bytes]], *more: tuple[str, bytes]) -> Headers:
    return [(h.ID, query_id.encode()), *headers, *more]


def _names(run: str, count: int) -> list[str]:
    return [f"{run}-odd-header-{number}" for number in range(count)]


def _odd_headers(rng: random.Random) -> Headers:
    names = (
        h.LATENCY_MS,
        h.DEADLINE_MS,
        h.MIN_ACCURACY,
        h.MAX_COST,
        h.MODE,
        h.TARGET,
        h.TENANT,
        h.BATCH,
        h.TRACEPARENT,
    )
    texts = (b"nan", b"-1", b"1e999", b"", b"\xc3\x28", b"x" * 300, b"0", b"99999999999999999999", b"inf")
    return [(rng.choice(names), rng.choice(texts)) for _ in range(rng.randrange(1, 4))]
