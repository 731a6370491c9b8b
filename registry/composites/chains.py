"""Registers a chain: a task whose queries pass several other tasks one after the other, in one worker.

A chain is a task of its own, with the inputs of its first task and the outputs of its last. It has one architecture,
with a variant for each combination of variants of its stages. So it has one deadline and one accuracy. The accuracy is
measured if there are labels for the last outputs; else it is declared, by default as the product of the accuracies of
the stages.

Names, datatypes and shapes are checked when a chain is declared. Only a property that a datatype cannot express is
checked during computation: that numbers are valid rows of a table.
"""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
from msgspec.structs import replace

from broker.kafka.settings import KafkaSettings
from registry.artifacts import ArtifactStore
from registry.composites.calibration import scores_of
from registry.composites.measuring import CompositePlan, CompositeWriter, content_of, note_access, stage_of
from registry.composites.stage_records import FoundStage, StageFinder, parts_of
from registry.quality import is_function
from registry.request import SAMPLES, ChainRequest, ProgressSink, Registration, shown
from registry.samples import Samples, load_arrays, read_labelled, take_rows
from registry.signature import VARIABLE, Signature
from registry.step_runner import LOCAL, StepRunner
from runtimes.composite import CHAIN, ChainDocument, Feed
from schemas.errors import InvalidRequest, OperatorError
from schemas.names import is_name
from schemas.rows.catalog import Task, TensorSpec, Variant
from store.pool import Pool

_MOST_VARIANTS: Final = 16
_KEPT_ROWS: Final = 8


async def register_chain(
    request: ChainRequest, pool: Pool, kafka: KafkaSettings, artifacts: ArtifactStore, progress: ProgressSink,
    runner: StepRunner = LOCAL,
) -> list[Variant]:  # fmt: skip
    """Register a chain, one variant for each combination of stages; return them. `runner` runs the measurement.

    Raises:
        InvalidRequest: the tasks make no chain, or the request does not fit them.
        OperatorError: a file, a service or an earlier registration prevents it.
    """
    request.check()
    finder = StageFinder(pool, artifacts, publisher=request.publisher)
    tasks = [await finder.task(name) for name in request.tasks]
    feeds = tuple(wire(one, next_, request.feeds.get(next_.name, {})) for one, next_ in pairwise(tasks))
    choices = await _choices(request, finder)
    samples = await asyncio.to_thread(_samples, request, tasks, choices[0], artifacts)
    plan = _plan(request, tasks, feeds, choices, samples)
    made: list[Variant] = []
    with TemporaryDirectory(prefix="infaas-chain-") as folder:
        await note_access(plan, pool, progress)
        writer = await CompositeWriter.open(plan, pool, kafka, artifacts, Path(folder), runner)
        for done, stages in enumerate(choices):
            label = _label(stages)
            show = shown(progress, done, len(choices), f"{plan.request.architecture}.{label}: measuring")
            document = ChainDocument(stages=tuple(stage_of(stage.variant) for stage in stages), feeds=feeds)
            made.append(await writer.write(label, document, show, _declared(request, stages)))
    progress.step(len(choices), len(choices), f"{request.name}: registered")
    return made


async def _choices(request: ChainRequest, finder: StageFinder) -> list[tuple[FoundStage, ...]]:
    """Return the stages of each chain: in the order of the request, or the cheapest chain first."""
    if request.through:
        named = [
            [await finder.stage(name, task, but=(CHAIN,)) for name, task in zip(names, request.tasks, strict=True)]
            for names in request.through
        ]
        choices = [tuple(stages) for stages in named]
    else:
        worth = [await finder.worth_trying(task, request.hardware) for task in request.tasks]
        choices = list(product(*(found if len(found) < 3 else (found[0], found[-1]) for found in worth)))
    for stages in choices:
        _check_stages(stages)
    if len(choices) > _MOST_VARIANTS:
        raise InvalidRequest(f"{len(choices)} combinations of variants are too many: choose some by --through")
    return choices


def _check_stages(stages: Sequence[FoundStage]) -> None:
    hardware = {stage.variant.hardware for stage in stages}
    if len(hardware) > 1:
        raise InvalidRequest(f"the stages run on {' and '.join(sorted(hardware))}, but a worker has only one of these")
    for number, stage in enumerate(stages):
        processing = stage.architecture.processing
        if processing is not None and (number or processing.after):
            raise InvalidRequest(
                f"{stage.variant.name} has processing, but only the first stage of a chain may have it, and only "
                "before the model: register it without"
            )


def _samples(
    request: ChainRequest, tasks: Sequence[Task], stages: Sequence[FoundStage], artifacts: ArtifactStore
) -> Samples:
    """Return labelled rows, or else the sample rows of the first stage; blocks."""
    signature = Signature(inputs=tasks[0].inputs, outputs=tasks[-1].outputs)
    if request.validation is not None:
        return read_labelled(signature, request.validation, _scores(request, tasks[-1]), SAMPLES, tasks[-1].classes)
    kept = stages[0].architecture.sample_rows
    if not kept or not artifacts.has(kept):
        raise OperatorError(
            f"there are no stored inputs of {tasks[0].name} for measurements: give a file by --validation"
        )
    with artifacts.held(kept) as file:
        return Samples(load_arrays(file), None, None)


def _plan(
    request: ChainRequest, tasks: Sequence[Task], feeds: Sequence[Mapping[str, Feed]],
    choices: Sequence[Sequence[FoundStage]], samples: Samples,
) -> CompositePlan:  # fmt: skip
    variants = [stage.variant for stages in choices for stage in stages]
    declared = None if request.validation else max(_declared(request, stages) or 0.0 for stages in choices)
    registration = Registration(
        architecture=f"{request.name}-{CHAIN}",
        task=request.name,
        file=Path(" and ".join(request.tasks)),
        validation=request.validation,
        accuracy=declared,
        max_batch=min(variant.max_batch for variant in variants),
        partitions=min(variant.partitions for variant in variants),
        hardware=variants[0].hardware,
        threads=choices[0][-1].profile.threads,
        again=request.again,
        made_of=parts_of(stage for stages in choices for stage in stages),
        access=request.access,
        publisher=request.publisher,
    )
    processing = choices[0][0].architecture.processing
    return CompositePlan(
        request=registration,
        task=_task(request, tasks),
        source=content_of(*request.tasks, msgspec.json.encode(feeds).decode()),
        samples=samples,
        scores=_scores(request, tasks[-1]).name,
        processing=processing and replace(processing, returned=()),  # the chain returns what its last stage does
        kept=take_rows(samples.inputs, 0, min(samples.count, _KEPT_ROWS)),
    )


def _task(request: ChainRequest, tasks: Sequence[Task]) -> Task:
    """Return the task of the chain: it has the outputs of the last task, with the same measure."""
    first, last = tasks[0], tasks[-1]
    if request.validation is not None and is_function(last.measure):
        raise InvalidRequest(
            f"task {last.name} is measured by the function {last.measure}, which a chain does not run: declare its "
            "accuracy by --accuracy, without --validation"
        )
    return Task(
        name=request.name,
        inputs=first.inputs,
        outputs=last.outputs,
        measure=last.measure,
        measured_output=_scores(request, last).name,
        classes=last.classes,
    )


def _scores(request: ChainRequest, last: Task) -> TensorSpec:
    return scores_of(last, request.output or last.measured_output or None)


def _declared(request: ChainRequest, stages: Sequence[FoundStage]) -> float | None:
    if request.validation is not None:
        return None
    if request.accuracy is not None:
        return request.accuracy
    return prod(stage.profile.accuracy for stage in stages)


def _label(stages: Sequence[FoundStage]) -> str:
    """Return the middle part of a variant's name: the stages, or a hash of them if that would be too long."""
    words = [word for stage in stages for word in stage.variant.name.split(".")[:2]]
    label = "-".join(words)
    return label if is_name(label) else f"{CHAIN}-{content_of(*words)[:12]}"


def wire(source: Task, target: Task, declared: Mapping[str, str]) -> dict[str, Feed]:
    """Return the feed of each input of `target`: the declared output, else the output of its name, else the only one.

    Raises:
        InvalidRequest: an input has no output, or one that does not fit; the message says how to declare one.
    """
    for name in declared:
        if name not in {spec.name for spec in target.inputs}:
            inputs = ", ".join(spec.name for spec in target.inputs)
            raise InvalidRequest(f"task {target.name} has no input {name!r}; it has {inputs}")
    return {spec.name: _feed(source, target, spec, declared.get(spec.name)) for spec in target.inputs}


def _feed(source: Task, target: Task, wanted: TensorSpec, declared: str | None) -> Feed:
    given = {spec.name: spec for spec in source.outputs}
    name = declared or wanted.name
    if name not in given and declared is None and len(given) == len(target.inputs) == 1:
        name = source.outputs[0].name
    if name not in given:
        raise InvalidRequest(
            f"task {source.name} has no output for the input {wanted.name!r} of {target.name}; it has "
            f"{', '.join(given)}: choose one by --feed {target.name}.{wanted.name}=OUTPUT"
        )
    _check_fits(source, target, given[name], wanted)
    return Feed(output=name, below=wanted.below)


def _check_fits(source: Task, target: Task, given: TensorSpec, wanted: TensorSpec) -> None:
    what = f"output {given.name!r} of task {source.name} cannot be the input {wanted.name!r} of {target.name}"
    if given.datatype != wanted.datatype:
        raise InvalidRequest(f"{what}: it is {given.datatype}, but must be {wanted.datatype}")
    fits = len(given.shape) == len(wanted.shape) and all(
        theirs in (VARIABLE, ours) for ours, theirs in zip(given.shape, wanted.shape, strict=True)
    )
    if not fits:
        raise InvalidRequest(f"{what}: its shape is {list(given.shape)}, but must be {list(wanted.shape)}")
