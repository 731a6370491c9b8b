"""`infaas plan`: the cheapest fleet, and the bounds that set it.

Exit codes: 0, or 1 if no fleet meets the objective within the budget, or 2 for invalid input.
"""

import math
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from infaas.cli.connect import Json
from infaas.cli.options import RequestOptions, with_options
from infaas.cli.output import ProgressBar, err, show, show_json, table
from infaas.cli.simulate_errors import EXIT_MISSED, invalid_input, solver_silenced
from infaas.cli.simulate_flags import ScenarioFlags
from schemas.errors import OperatorError
from simulator.figures import format_figure
from simulator.fleet_evaluation import evaluate_bounds
from simulator.planning import FleetBounds, FleetPlan, FleetSearch, Goal, TriedFleet
from simulator.scenario_file import INFAAS, ScenarioFile


@with_options
def plan(
    options: RequestOptions[ScenarioFlags],
    attainment: Annotated[
        float, typer.Option(min=0, max=1, help="Objective: share of online queries that are answered in time.")
    ],
    budget: Annotated[
        float, typer.Option(min=0, metavar="USD", help="Maximum mean price of the workers per hour.")
    ] = math.inf,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Number of seeds of each simulation.")] = 1,
    as_json: Json = False,
) -> None:
    """Find the cheapest fixed and autoscaled fleet that meets an objective, by simulations of a load.

    Prints the commands that set its bounds. Exit code 1: no fleet meets the objective within the budget. Exit code 2:
    an option or a file is invalid.
    """
    goal = Goal(attainment, budget)
    with invalid_input():
        _, scenario = options.request().read()
        if scenario.system != INFAAS:
            raise OperatorError(f"bounds exist in {INFAAS} only, not in the system {scenario.system}")
        with solver_silenced(), ProgressBar() as bar:
            found = _search(scenario, goal, range(scenario.seed, scenario.seed + seeds), bar)
    if as_json:
        plans = {name: _plain(getattr(found, name)) for name in ("fixed", "autoscaled", "best")}
        show_json(plans | {"tried": [_plain(one) for one in found.tried]})
    else:
        show(_table(found, goal))
        for command in found.best.bounds.commands() if found.best else ():
            typer.echo(command)
    if found.best is None:
        err.print("no fleet among these meets the objective within the budget", highlight=False)
        raise typer.Exit(EXIT_MISSED)


def _search(scenario: ScenarioFile, goal: Goal, seeds: range, bar: ProgressBar) -> FleetPlan:
    hardware = [one for one in scenario.bounded_catalogue().hardware if one.maximum]

    def evaluate(bounds: FleetBounds) -> TriedFleet:
        return evaluate_bounds(scenario, bounds, seeds, lambda done, total, _: bar.step(done, total, str(bounds)))

    prices, largest = {h.name: h.price_per_hour for h in hardware}, {h.name: h.maximum for h in hardware}
    return FleetSearch(evaluate, goal, prices, largest).run()


def _plain(one: TriedFleet | None) -> dict[str, Any] | None:
    return None if one is None else asdict(one) | {"commands": one.bounds.commands()}


def _table(found: FleetPlan, goal: Goal) -> Table:
    rows = [
        (
            "fixed" if one.bounds.fixed else "autoscaled",
            one.bounds,
            format_figure("attainment", one.attainment),
            f"{one.usd_per_hour:.3f}",
            _verdict(one, found, goal),
        )
        for one in found.tried
    ]
    return table(("fleet", "workers", "attainment>", "USD/h>", "verdict"), rows, title="Simulated fleets")


def _verdict(one: TriedFleet, found: FleetPlan, goal: Goal) -> str:
    if not goal.is_met(one):
        return "misses"
    if one.usd_per_hour > goal.usd_per_hour:
        return "too dear"
    return "cheapest" if one is found.best else "cheapest of its kind" if one in (found.fixed, found.autoscaled) else ""
