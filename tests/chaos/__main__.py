"""Run faults under load: `python -m tests.chaos [--minutes N] [--queries N] [--faults NAME,...] [--seed N]`.

Real processes: two selectors, two workers, two autoscalers, a gateway, Postgres, Apache Kafka. The exit code is 0 only
if no query was lost, no result was shown twice or held, and the system recovered from each fault.

It may run unattended for hours: its data is bounded, the report is rewritten after each fault, and SIGTERM ends it
after the current fault, as its time limit does.
"""

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from math import inf
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.core.system import SystemUnderTest, infaas, running_at
from tests.chaos.campaign import CampaignReport, Course, run_campaign
from tests.chaos.faults import FAULTS, Arena, FaultScenario
from tests.chaos.kafka_cluster import kafka_cluster
from tests.chaos.ledger import Ledger
from tests.chaos.poison import MODEL_FAULTS
from tests.chaos.report import fault_table, summary, write_report
from tests.chaos.resources import SHORT_RETENTION
from tests.chaos.site import Site
from tests.chaos.traffic import TASK

# Handlers of gRPC, whose clients send queries here, crash some of the processes that this one forks.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
_DISK: Final = "6g"
"""Size of the file system that faults may fill."""
_WIDTH: Final = 150
_MINUTES: Final = 30.0
_FLAGS: Final = ("--selectors=2", "--autoscalers=2", "--workers=2", "--oversubscribe")


def main() -> None:
    """Parse the command line, run a campaign, print and write its report."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument(
        "--minutes", type=float, help="minutes after which no more faults begin; default: 30 without --queries"
    )
    parser.add_argument("--queries", type=int, help="number of queries after which no more faults begin")
    parser.add_argument(
        "--faults", default="", help="parts of names of faults, joined by commas; default: all possible ones"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=150.0, help="total queries per second")
    parser.add_argument("--every", type=float, default=60.0, help="minimum seconds between two faults")
    parser.add_argument("--stop", type=float, default=20.0, help="seconds that a process is stopped")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds that Kafka or Postgres is stopped")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--model", type=Path, help="model to register, in one variant; default: all of the zoo's task")
    parser.add_argument("--report", type=Path, default=Path("build/chaos"))
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    if arguments.minutes is None and arguments.queries is None:
        arguments.minutes = _MINUTES
    report = asyncio.run(_run(arguments, console))
    console.print(fault_table(report.faults))
    for name, text in summary(report):
        console.print(f"{name}: {text}", highlight=False)
    console.print(f"written to {write_report(report, arguments.report)}")
    sys.exit(not report.passed)


async def _run(arguments: argparse.Namespace, console: Console) -> CampaignReport:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    course = Course(
        seed=arguments.seed, rate=arguments.rate, every_s=arguments.every,
        minutes=inf if arguments.minutes is None else arguments.minutes,
        queries=inf if arguments.queries is None else arguments.queries,
    )  # fmt: skip
    async with _arena(arguments) as arena:

        def tell(report: CampaignReport) -> None:
            write_report(report, arguments.report)
            console.log(_told(report), highlight=False)

        return await run_campaign(arena, _possible(arguments.faults, arena, console), course, tell, stop)


def _possible(wanted: str, arena: Arena, console: Console) -> list[FaultScenario]:
    """Return the faults that are possible here and whose names contain one of the wanted parts."""
    chosen = [fault for fault in FAULTS if any(part in fault.name for part in wanted.split(","))]
    why_not = {fault.name: fault.is_possible(arena) for fault in chosen}
    for name, reason in why_not.items():
        if reason:
            console.log(f"skipped: {name}: {reason}")
    return [fault for fault in chosen if not why_not[fault.name]]


def _told(report: CampaignReport) -> str:
    fault = report.faults[-1]
    recovered = "never answered again" if fault.recovered_s is None else f"answers after {fault.recovered_s:.1f} s"
    if fault.problem:
        recovered = f"not inflicted, {fault.problem}; {recovered}"
    counts = f"{len(report.faults)} faults and {report.asked:,} queries so far, {report.lost} lost"
    return f"{fault.fault}: {recovered}; {counts}, {report.shown_twice} shown twice"


@asynccontextmanager
async def _arena(arguments: argparse.Namespace) -> AsyncGenerator[Arena]:
    """Yield a whole system with its task registered, in a folder that faults may fill."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="infaas-chaos-")))
        small = stack.enter_context(_small_disk(folder / "home"))
        (folder / "faults").mkdir()
        (folder / "faults" / "sitecustomize.py").write_text(MODEL_FAULTS)
        env = {"PYTHONPATH": f"{folder / 'faults'}{os.pathsep}{os.getcwd()}", "INFAAS_KAFKA": "", **SHORT_RETENTION}
        cluster = None
        if arguments.brokers > 1:
            cluster = await stack.enter_async_context(kafka_cluster(folder / "kafka"))
            env["INFAAS_KAFKA"] = cluster.bootstrap
        broker = "external" if cluster else "apache"
        system = await stack.enter_async_context(running_at(folder / "home", broker, flags=_FLAGS, env=env))
        await _register(system, arguments.model)
        yield Arena(
            site=Site(system), ledger=Ledger(), rng=random.Random(arguments.seed), run=uuid.uuid4().hex[:8],
            stop_s=arguments.stop, outage_s=arguments.outage, cluster=cluster, small_disk=small,
        )  # fmt: skip


async def _register(system: SystemUnderTest, model: Path | None) -> None:
    alone = (str(model), f"--task={TASK}", "--accuracy=0.9", "--variant=onnx-fp32")
    await infaas(system.home, "register", *(alone if model else ("--zoo", TASK)))
    await infaas(system.home, "scale", "pin", "task", TASK, "--min", "2")


@contextmanager
def _small_disk(folder: Path) -> Generator[bool]:
    """Mount a file system at a folder while the context is open; yields true if that was possible."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=755", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True, timeout=20).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True, timeout=20)


if __name__ == "__main__":
    main()
