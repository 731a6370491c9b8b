"""Linear programs by blocks of columns and rows, solved by HiGHS."""

from typing import Final, NamedTuple, TypeAlias

import highspy
import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.errors import InfaasError

INFINITE: Final = highspy.kHighsInf
Indices: TypeAlias = NDArray[np.int64]
Vector: TypeAlias = NDArray[np.float64]


class Term(NamedTuple):
    """Entries of a block of rows; the three are broadcast together."""

    row: ArrayLike
    """Row within the block."""
    column: ArrayLike
    factor: ArrayLike = 1.0


class Solution(NamedTuple):
    """Optimum of a program."""

    objective: float
    """Infinite if the program has no solution."""
    values: Vector
    """Values of the columns; empty if the program has no solution."""


class LinearProgram:
    """Minimisation over columns of at least 0."""

    def __init__(self) -> None:
        self._upper: list[Vector] = []
        self._columns = self._rows = 0
        self._bounds: list[tuple[Vector, Vector]] = []
        self._terms: list[tuple[Indices, Indices, Vector]] = []

    def add_columns(self, count: int, upper: ArrayLike = INFINITE) -> Indices:
        """Add columns; return their indices."""
        self._upper.append(np.broadcast_to(np.asarray(upper, np.float64), count))
        self._columns += count
        return np.arange(self._columns - count, self._columns)

    def add_rows(self, count: int, lower: ArrayLike, upper: ArrayLike, *terms: Term) -> None:
        """Add rows: the sum of a row's terms is between its bounds."""
        for term in terms:
            row, column, factor = np.broadcast_arrays(*(np.atleast_1d(part) for part in term))
            self._terms.append((row.astype(np.int64) + self._rows, column.astype(np.int64), factor.astype(np.float64)))
        low, high = (np.broadcast_to(np.asarray(bound, np.float64), count) for bound in (lower, upper))
        self._bounds.append((low, high))
        self._rows += count

    def solve(self, columns: Indices, factors: ArrayLike) -> Solution:
        """Minimise the sum of `columns` times `factors`.

        Raises:
            InfaasError: HiGHS ends without a solution of a program that is bounded.
        """
        objective = np.zeros(self._columns)
        objective[columns] = factors
        solver = highspy.Highs()
        for name, value in {"output_flag": False, "threads": 1, "solver": "ipm"}.items():
            solver.setOptionValue(name, value)
        solver.passModel(self._model(objective))
        solver.run()
        status = solver.getModelStatus()
        if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
            return Solution(np.inf, np.zeros(0))
        if status != highspy.HighsModelStatus.kOptimal:
            raise InfaasError(f"HiGHS has not solved the program of the oracle bound: {status}")
        return Solution(solver.getInfo().objective_function_value, np.asarray(solver.getSolution().col_value))

    def _model(self, objective: Vector) -> highspy.HighsLp:
        rows, columns, factors = (np.concatenate(parts) for parts in zip(*self._terms, strict=True))
        order = np.lexsort((columns, rows))
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = self._columns, self._rows
        lp.col_cost_ = objective
        lp.col_lower_, lp.col_upper_ = np.zeros(self._columns), np.concatenate(self._upper)
        lp.row_lower_, lp.row_upper_ = (np.concatenate(bounds) for bounds in zip(*self._bounds, strict=True))
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.searchsorted(rows[order], np.arange(self._rows + 1))
        lp.a_matrix_.index_, lp.a_matrix_.value_ = columns[order], factors[order]
        return lp
