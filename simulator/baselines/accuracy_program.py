"""Proteus's integer program: the variants and the shares of queries with the highest accuracy that carry the load.

Source: Ahmad et al., "Proteus: A High-Throughput Inference-Serving System with Accuracy Scaling", ASPLOS'24, section 4.
Columns: inputs a second of each class on each variant that meets its needs, inputs a second of each class that are not
served, and replicas of each variant. Serving goes before accuracy.

Difference: where the paper places one variant on a device, replicas here share the slots and the memory of the workers
of their hardware, because one instance of some runtimes cannot use all slots.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Final, NamedTuple

import highspy
import numpy as np

from simulator.baselines.priced_profile import PricedProfile

_UNSERVED: Final = 10.0
"""Loss of accuracy that an input which is not served counts as."""
_NODES: Final = 500
"""Most nodes of the search; a limit of time would make results depend on the machine."""
_GAP: Final = 1e-3
_Row = tuple[float, float, list[tuple[int, float]]]


class ClassDemand(NamedTuple):
    """Demand of one class of queries."""

    key: Hashable
    inputs_per_s: float
    limit_s: float
    options: Sequence[PricedProfile]
    """Variants that meet its needs."""


class AccurateAllocation(NamedTuple):
    """Solution of the program."""

    replicas: Mapping[str, int]
    """Replicas by variant."""
    shares: Mapping[Hashable, Sequence[tuple[str, float]]]
    """Variants and inputs a second of each class."""
    loss: float
    """Mean loss of accuracy of an input against 1; inputs that are not served lose most."""


def solve_accuracy(demands: Sequence[ClassDemand], workers: Mapping[str, int]) -> AccurateAllocation:
    """Return the allocation of highest accuracy on `workers` by hardware type."""
    options = [(demand, one) for demand in demands for one in undominated(demand) if workers.get(one.hardware.name)]
    profiles = sorted({one.name: one for _, one in options}.items())
    column = {name: len(options) + len(demands) + number for number, (name, _) in enumerate(profiles)}
    rows = _serving_rows(demands, options, column) + _hosting_rows([one for _, one in profiles], column, workers)
    costs = [-one.accuracy for _, one in options] + [_UNSERVED] * len(demands) + [0.0] * len(profiles)
    upper = [np.inf] * (len(options) + len(demands)) + [float(workers[one.hardware.name]) for _, one in profiles]
    values = _solve(costs, upper, rows, integers=len(profiles))
    shares: dict[Hashable, list[tuple[str, float]]] = {demand.key: [] for demand in demands}
    for (demand, one), value in zip(options, values, strict=False):
        if value > 1e-6:
            shares[demand.key].append((one.name, value))
    counts = {name: round(values[number]) for name, number in column.items()}
    loss = 1.0 + float(np.dot(costs, values)) / sum(demand.inputs_per_s for demand in demands)
    return AccurateAllocation({name: count for name, count in counts.items() if count}, shares, loss)


def throughput(demand: ClassDemand, profile: PricedProfile) -> float:
    """Return the inputs a second of a replica in the largest batches that are in time: twice their latency fits."""
    return profile.throughput(profile.in_time_batch(demand.limit_s))


def undominated(demand: ClassDemand) -> list[PricedProfile]:
    """Return the options that no other of their hardware beats in both accuracy and throughput."""
    kept: list[PricedProfile] = []
    best: dict[str, float] = {}
    for one in sorted(demand.options, key=lambda one: (-one.accuracy, -throughput(demand, one) / one.share, one.name)):
        speed = throughput(demand, one) / one.share
        if speed > best.get(one.hardware.name, 0.0):
            best[one.hardware.name] = speed
            kept.append(one)
    return kept


def _serving_rows(
    demands: Sequence[ClassDemand], options: Sequence[tuple[ClassDemand, PricedProfile]], column: Mapping[str, int]
) -> list[_Row]:
    """Return the rows that serve each class, with replicas for all its inputs."""
    rows: list[_Row] = []
    for number, demand in enumerate(demands):
        mine = [(index, 1.0) for index, (other, _) in enumerate(options) if other is demand]
        rows.append((demand.inputs_per_s, demand.inputs_per_s, [*mine, (len(options) + number, 1.0)]))
    for name, replicas in column.items():
        mine = [(i, 1.0 / throughput(demand, one)) for i, (demand, one) in enumerate(options) if one.name == name]
        rows.append((-np.inf, 0.0, [*mine, (replicas, -1.0)]))
    return rows


def _hosting_rows(
    profiles: Sequence[PricedProfile], column: Mapping[str, int], workers: Mapping[str, int]
) -> list[_Row]:
    """Return the rows that keep replicas within the slots and the memory of the workers."""
    rows: list[_Row] = []
    for hardware, count in workers.items():
        mine = [one for one in profiles if one.hardware.name == hardware]
        rows.append((-np.inf, float(count), [(column[one.name], one.share) for one in mine]))
        memory = [(column[one.name], one.memory_bytes / one.hardware.memory_bytes) for one in mine]
        rows.append((-np.inf, float(count), memory))
    return rows


def _solve(costs: Sequence[float], upper: Sequence[float], rows: Sequence[_Row], *, integers: int) -> list[float]:
    """Return the columns of the best solution; the last `integers` of them are whole."""
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(costs), len(rows)
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = np.array(costs), np.zeros(len(costs)), np.array(upper)
    lp.row_lower_ = np.array([lower for lower, _, _ in rows])
    lp.row_upper_ = np.array([high for _, high, _ in rows])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.cumsum([0, *(len(entries) for *_, entries in rows)])
    lp.a_matrix_.index_ = np.array([number for *_, entries in rows for number, _ in entries], dtype=np.int32)
    lp.a_matrix_.value_ = np.array([value for *_, entries in rows for _, value in entries], dtype=np.float64)
    real, whole = highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger
    lp.integrality_ = [real] * (len(costs) - integers) + [whole] * integers
    solver = highspy.Highs()
    options = {"output_flag": False, "threads": 1, "mip_rel_gap": _GAP, "mip_max_nodes": _NODES, "random_seed": 0}
    for name, value in options.items():
        solver.setOptionValue(name, value)
    solver.passModel(lp)
    solver.run()
    return list(solver.getSolution().col_value)
