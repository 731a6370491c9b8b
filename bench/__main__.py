"""Run the benches: `python -m bench [--broker embedded|apache|both] [--only NAME ...]`.

Writes `bench/results.json` and the README's table; figures that were not taken stay as they are.
"""

import argparse
import asyncio
import platform

import psutil
from rich.console import Console
from rich.table import Table

from bench import crash, gateway_throughput, overhead, selector_throughput, worker_throughput
from bench.figures import Figure, write_results
from bench.system import running_system

BROKERS = ("apache", "embedded")
BENCHES = ("overhead", "selector", "gateway", "worker", "crash")


async def _run(broker: str, only: set[str], console: Console) -> list[Figure]:
    figures: list[Figure] = []
    async with running_system(broker, "digits") as system:
        if "overhead" in only:
            console.log(f"{broker}: end to end")
            figures += await overhead.measure(system.kafka, broker)
        if "gateway" in only:
            console.log(f"{broker}: gateway")
            figures += await gateway_throughput.measure(system, broker)
        if "crash" in only:
            console.log(f"{broker}: SIGKILL under load")
            figures += await crash.measure(system, broker)
        if "selector" in only:
            console.log(f"{broker}: selector")
            figures += await selector_throughput.measure(system, broker)
        if "worker" in only:
            console.log(f"{broker}: worker")
            figures += await worker_throughput.measure(system, broker)
    return figures


def machine() -> str:
    """On what the figures were taken."""
    with open("/proc/cpuinfo") as cpuinfo:
        model = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), "unknown CPU")
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores of {model}, {memory_gib:.0f} GiB, Python {platform.python_version()}"


def show(console: Console, figures: list[Figure]) -> None:
    """Print the figures."""
    table = Table("what", "broker", "ours", "floor", "ratio", "target", "holds")
    for f in figures:
        table.add_row(
            f.name,
            f.broker,
            f"{f.value:,.4g} {f.unit}",
            "" if f.floor is None else f"{f.floor:,.4g} {f.unit}",
            "" if f.ratio is None else f"{f.ratio:.2f}",
            f.target,
            {True: "yes", False: "[red]no[/]", None: ""}[f.holds],
        )
    console.print(table)


def main() -> None:
    """Parse the command line, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=(*BROKERS, "both"), default="both")
    parser.add_argument("--only", choices=BENCHES, nargs="+", default=list(BENCHES))
    wanted = parser.parse_args()
    brokers = BROKERS if wanted.broker == "both" else (wanted.broker,)
    console = Console()
    figures: list[Figure] = []
    for broker in brokers:
        figures += asyncio.run(_run(broker, set(wanted.only), console))
    show(console, figures)
    write_results(figures, machine())


if __name__ == "__main__":
    main()
