"""`infaas query` and `infaas explain`: a query from the shell, and the reasons for the choice of its variant."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, cast

import msgspec
import numpy as np
import typer
from rich.table import Table

from infaas.cli.admin_client import model_signature
from infaas.cli.connect import (
    DEFAULT_HOME,
    Home,
    Json,
    find_database,
    find_gateway,
    find_kafka,
    gateway_url,
    named_gateway,
)
from infaas.cli.options import RequestOptions, with_options
from infaas.cli.output import facts, show, show_json, table
from infaas.cli.parameters import ParametersFlag, read_parameters
from infaas.cli.processing import plain_inputs
from infaas.cli.text_stream import print_stream, prompt_of
from infaas.client.client import Answer, InfaasClient, QueryOptions, SystemOptions
from infaas.up.optional_zoo import zoo_example
from registry.labelled_files import NotPlainArrays, read_npz
from schemas.errors import InvalidRequest, OperatorError, QueryError, UnknownTask
from schemas.generation import TEXT_OUTPUT
from schemas.hardware import priced_unit, usd
from schemas.oip import decode_request
from schemas.query import Mode
from schemas.rows.catalog import ACCURACY, TensorSpec
from schemas.tensors import BYTES, Array
from store.pool import open_pool
from store.registry import get_architecture, get_task, get_variant
from store.settings import ENV as POSTGRES_ENV

_OPTIONAL_NEEDS: Final = (
    "latency_ms", "min_accuracy", "max_cost", "ttft_ms", "tpot_ms", "max_tokens", "target", "tenant",
)  # fmt: skip
_SHOWN: Final = 8
_NUMPY: Final = {"FP16": "f2", "FP32": "f4", "FP64": "f8", "BOOL": "?"}


class QueryRoute(StrEnum):
    """Transports of a query."""

    HTTP = "http"
    KAFKA = "kafka"


class QueryFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs and needs of a query on the command line."""

    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT OR FILE]...", help="Texts or image files, if the task takes them."),
    ] = None
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="An .npz with an array per input, or an Open Inference Protocol request in JSON; - reads JSON from "
            "stdin. Default: a held-out input of the zoo, or zeros.",
        ),
    ] = None
    latency_ms: Annotated[float | None, typer.Option(min=0, help="Deadline of the answer, in ms from now.")] = None
    min_accuracy: Annotated[float | None, typer.Option(min=0, max=1, help="Minimum accuracy, 0..1.")] = None
    max_cost: Annotated[
        float | None,
        typer.Option(min=0, help="Maximum cost in USD per 1000 such queries; generative tasks: per 1000 tokens."),
    ] = None
    ttft_ms: Annotated[float | None, typer.Option(min=0, help="Generative tasks: ms until the first token.")] = None
    tpot_ms: Annotated[float | None, typer.Option(min=0, help="Generative tasks: ms of each further token.")] = None
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Generative tasks: tokens of the answer.")] = None
    parameters: ParametersFlag = None
    target: Annotated[str | None, typer.Option(help="Use only this architecture or variant.")] = None
    tenant: Annotated[str | None, typer.Option(help="Tenant of the query. Default: none, for public models only.")] = (
        None
    )
    allow_late: Annotated[bool, typer.Option("--allow-late", help="Accept a late answer instead of a refusal.")] = False

    def needs(self, mode: Mode = Mode.ONLINE) -> QueryOptions:
        """Return the options of the client for a query with an explanation, which also shows an upgrade."""
        options = QueryOptions(mode=mode, allow_late=self.allow_late, explain=True)
        given: dict[str, Any] = {name: getattr(self, name) for name in _OPTIONAL_NEEDS}
        if self.parameters:
            given["parameters"] = read_parameters(self.parameters)
        return cast("QueryOptions", options | {name: value for name, value in given.items() if value is not None})


@with_options
def query(
    task: Annotated[str, typer.Argument(help="A task; over HTTP also an architecture or a variant.")],
    options: RequestOptions[QueryFlags],
    mode: Annotated[Mode, typer.Option(help="offline: computed when a worker is idle.")] = Mode.ONLINE,
    via: Annotated[QueryRoute, typer.Option(help="Through the gateway, or directly through Kafka.")] = QueryRoute.HTTP,
    stream: Annotated[bool, typer.Option("--stream", help="Generative tasks: print the answer as it is made.")] = False,
    chat: Annotated[
        bool, typer.Option("--chat", help="Generative tasks: the texts are messages of a chat, the first of the user.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Query a task once and show the answer. Exit code 2, with the reason, if the query was refused."""
    flags = options.request()
    if stream or chat:
        prompt, needs = prompt_of(flags.values or (), chat=chat), flags.needs(mode)
        return asyncio.run(print_stream(system_of(home, via), task, prompt, needs, as_json=as_json))
    answer = asyncio.run(_ask(home, task, flags, flags.needs(mode), via))
    if as_json:
        return show_json(_as_json(answer))
    show(_facts(answer))
    rows = [(name, f"{a.dtype}{list(a.shape)}", _preview(a)) for name, a in answer.outputs.items()]
    return show(table(("output", "type", "values"), rows))


@with_options
def explain(
    task: Annotated[str, typer.Argument(help="A task; choose an architecture or variant by --target.")],
    options: RequestOptions[QueryFlags],
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Query a task once and show every variant considered, its prediction, and why it was not chosen.

    Exit code 2 if the query was refused.
    """
    flags = options.request()
    try:
        route = QueryRoute.HTTP if named_gateway() else QueryRoute.KAFKA
        answer = asyncio.run(_ask(home, task, flags, flags.needs(), route))
    except QueryError as error:
        if error.explanation is not None:
            show_json(error.explanation) if as_json else show(_considered(error.explanation))
        raise
    if as_json:
        return show_json(answer.explanation)
    show(_facts(answer))
    return show(_considered(answer.explanation))


async def _ask(home: Path, task: str, flags: QueryFlags, needs: QueryOptions, via: QueryRoute) -> Answer:
    if flags.values and flags.inputs:
        raise InvalidRequest("texts or files, and --inputs, exclude one another")
    if flags.values:
        _, specs = await _find_task(home, task, via)
        arrays = plain_inputs(flags.values, specs, task)
    else:
        arrays = _read_inputs(flags.inputs) if flags.inputs else await _example(home, task, via)
    async with InfaasClient(**system_of(home, via)) as client:
        return await client.infer(task, arrays, **needs)


def system_of(home: Path, via: QueryRoute) -> SystemOptions:
    """Return the system of a folder, to be reached this way."""
    return {"gateway": find_gateway(home)} if via is QueryRoute.HTTP else {"kafka": find_kafka(home)}


def _read_inputs(file: Path) -> Mapping[str, Array]:
    try:
        if file.suffix == ".npz":
            return read_npz(file)
        body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise OperatorError(f"cannot read inputs from {file}: {error.strerror or error}") from error
    except NotPlainArrays:
        raise OperatorError(f"cannot read inputs from {file}: it is not an .npz file of plain arrays") from None
    return decode_request(body, None).inputs


async def _example(home: Path, name: str, via: QueryRoute) -> Mapping[str, Array]:
    example = zoo_example(name)
    if example is not None:
        return example
    task, inputs = await _find_task(home, name, via)
    return zoo_example(task) or {spec.name: _zeros(spec) for spec in inputs}


async def _find_task(home: Path, name: str, via: QueryRoute) -> tuple[str, Sequence[TensorSpec]]:
    """Return the task of a name, which may be an architecture or a variant, and the task's inputs.

    A gateway does not report the task of a model; the name itself is returned then.
    """
    url = gateway_url()
    if via is QueryRoute.HTTP and not os.environ.get(POSTGRES_ENV):
        url = named_gateway()
    if url:
        return name, (await model_signature(url, name)).inputs
    async with open_pool(find_database(home), max_size=1) as pool:
        model = await get_variant(pool, name) or await get_architecture(pool, name)
        task = await get_task(pool, model.task if model else name)
    if task is None:
        raise UnknownTask(f"no task, architecture or variant is called {name!r}; `infaas tasks` lists the tasks")
    return task.name, task.inputs


def _zeros(spec: TensorSpec) -> Array:
    shape = [1 if size < 0 else size for size in spec.shape]
    if spec.datatype == "BYTES":
        return np.full(shape, b"", dtype=object)
    return np.zeros(shape, dtype=_NUMPY.get(spec.datatype) or spec.datatype.lower())


def _as_json(answer: Answer) -> dict[str, Any]:
    outputs = {name: _as_text(values).tolist() for name, values in answer.outputs.items()}
    return {name: getattr(answer, name) for name in answer.__struct_fields__} | {"outputs": outputs}


def _as_text(values: Array) -> Array:
    """Return BYTES as text, other arrays unchanged."""
    if values.dtype != BYTES:
        return values
    return np.array([_shown(value) for value in values.flat], BYTES).reshape(values.shape)


def _facts(answer: Answer) -> Table:
    accuracy = "-" if answer.accuracy is None else f"{answer.accuracy:.2%}"
    unit = priced_unit(generative=TEXT_OUTPUT in answer.outputs)
    cost = "-" if answer.cost is None else f"{usd(answer.cost)} per {unit}"
    if answer.explanation and answer.explanation.get("upgraded"):
        cost += ", the cost of the cheapest variant (free upgrade)"
    times = (
        f"{answer.total_ms:.1f} ms (predicted {answer.predicted_ms:.1f}; "
        f"queued {answer.queue_ms:.1f}, computed {answer.compute_ms:.2f})"
    )
    if answer.late:
        times += ": late"
    return facts(
        [
            ("variant", answer.variant), ("worker", answer.worker), ("accuracy", accuracy), ("cost", cost),
            ("took", times),
        ]
    )  # fmt: skip


def _considered(explanation: Any) -> Table:
    rows = [
        (
            row["variant"],
            row.get("worker", "-"),
            f"{row['accuracy']:.2%}",
            usd(row["cost"]),
            f"{row['predicted_ms']:.1f}" if "predicted_ms" in row else "-",
            _median(row.get("ttft_ms")),
            _median(row.get("tpot_ms")),
            _median(row.get("answer_tokens"), digits=0),
            row["verdict"],
        )
        for row in explanation["considered"]
    ]
    generative = bool(explanation.get("ttft_ms")) or any("ttft_ms" in row for row in explanation["considered"])
    accuracy = f"{explanation.get('measure', ACCURACY)}>"
    cost = f"cost/{priced_unit(generative=generative)}>"
    columns = ("variant", "worker", accuracy, cost, "ms>", "TTFT ms>", "TPOT ms>", "tokens>", "verdict")
    if not generative:
        columns, rows = (*columns[:5], columns[-1]), [(*row[:5], row[-1]) for row in rows]
    return table(columns, rows, title=explanation["reason"], optional_columns=("worker", cost))


def _median(predicted: Sequence[float] | None, digits: int = 1) -> str:
    """Return the median of a prediction, with its p99."""
    return "-" if not predicted else f"{predicted[0]:.{digits}f} (p99 {predicted[1]:.{digits}f})"


def _preview(values: Array) -> str:
    flat = values.reshape(-1)
    shown = ", ".join(map(_shown, flat[:_SHOWN]))
    return shown + (", ..." if flat.size > _SHOWN else "")


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return f"{value:.4g}" if isinstance(value, np.floating) else str(value)
