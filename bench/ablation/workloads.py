"""All workloads of the ablation. Fleets are small and the times short, so that the whole table runs within the hour."""

from typing import Final

from bench.ablation.fixed_workloads import FIXED_WORKLOADS
from bench.ablation.scaled_workloads import SCALED_WORKLOADS
from bench.ablation.workload import AblationWorkload

WORKLOADS: Final[dict[str, AblationWorkload]] = {one.name: one for one in (*FIXED_WORKLOADS, *SCALED_WORKLOADS)}
