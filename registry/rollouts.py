"""Actions on the versions of a model. Pure: each function returns the new row, and the event to keep.

canary, shadow -> (a larger share ...) -> finished
                                       -> rolled_back, which also takes back what was finished
"""

from typing import TypeAlias

from msgspec.structs import replace

from schemas.errors import OperatorError
from schemas.rows.rollout import Rollout, VersionEvent, VersionEventKind

RolloutChange: TypeAlias = tuple[Rollout, VersionEvent]


def canary(rollout: Rollout, version: int, share: float, by: str) -> RolloutChange:
    """Let a version answer a share, 0..1, of the queries of its model.

    Raises:
        OperatorError: it serves already, or another version is being tried.
    """
    _check_free(rollout, version)
    return replace(rollout, candidate=version, share=share), _event(
        rollout, version, VersionEventKind.CANARY, by, f"answers {100 * share:.4g} % of the queries"
    )


def shadow(rollout: Rollout, version: int, share: float, by: str) -> RolloutChange:
    """Send a version copies of a share, 0..1, of the queries of its model.

    Raises:
        OperatorError: it serves already, or another version is being tried.
    """
    _check_free(rollout, version)
    return replace(rollout, candidate=version, shadow=share), _event(
        rollout, version, VersionEventKind.SHADOW, by, f"gets copies of {100 * share:.4g} % of the queries"
    )


def finished(rollout: Rollout, version: int, kind: VersionEventKind, by: str) -> RolloutChange:
    """Let a version serve; the version before stands in until an instance of it does.

    Raises:
        OperatorError: it serves already, or another version is being tried.
    """
    _check_free(rollout, version)
    now = replace(rollout, serving=version, previous=rollout.serving, candidate=None, share=0.0, shadow=0.0)
    return now, _event(rollout, version, kind, by, f"instead of version {rollout.serving}")


def rolled_back(rollout: Rollout, by: str) -> RolloutChange:
    """Withdraw the version that is being tried; if there is none, let the version before serve again.

    Raises:
        OperatorError: there is no version to go back to.
    """
    kind = VersionEventKind.ROLLED_BACK
    if rollout.candidate is not None:
        now = replace(rollout, candidate=None, share=0.0, shadow=0.0)
        return now, _event(rollout, rollout.candidate, kind, by, f"version {rollout.serving} answers all queries")
    if rollout.previous is None:
        raise OperatorError(
            f"version {rollout.serving} of {rollout.model} serves, no other version is under trial, and none served "
            "before: there is nothing to roll back"
        )
    now = replace(rollout, serving=rollout.previous, previous=None)
    return now, _event(rollout, rollout.serving, kind, by, f"version {rollout.previous} serves again")


def _check_free(rollout: Rollout, version: int) -> None:
    if version == rollout.serving:
        raise OperatorError(f"version {version} of {rollout.model} is serving already")
    if rollout.candidate not in (None, version):
        raise OperatorError(
            f"version {rollout.candidate} of {rollout.model} is under trial: first finish it, or withdraw it by "
            f"`infaas rollback {rollout.model}`"
        )


def _event(rollout: Rollout, version: int, kind: VersionEventKind, by: str, detail: str) -> VersionEvent:
    return VersionEvent(model=rollout.model, version=version, kind=kind, detail=detail, by=by)
