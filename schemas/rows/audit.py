"""Rows of the audit log: actor, action, subject, time, origin and outcome of administrators' actions."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class AuditVerb(StrEnum):
    """Kind of administrator's action."""

    REGISTER = "register"
    UNREGISTER = "unregister"
    ROLLOUT = "rollout"
    ROLLBACK = "rollback"
    SET_ACCESS = "set-access"
    PIN = "pin"
    UNPIN = "unpin"
    PAUSE = "pause"
    RESUME = "resume"
    CREATE_KEY = "create-key"
    REVOKE_KEY = "revoke-key"
    SET_QUOTA = "set-quota"
    CREATE_TENANT = "create-tenant"
    REMOVE_TENANT = "remove-tenant"
    SHOW_SIGNING_KEY = "show-signing-key"
    REPLAY_LETTERS = "replay-letters"
    DROP_LETTERS = "drop-letters"
    CANCEL_JOBS = "cancel-jobs"
    CANCEL_REGISTRATION = "cancel-registration"


class AuditOutcome(StrEnum):
    """Outcome of an action."""

    BEGUN = "begun"
    """The action runs, or it was interrupted; its progress is not recorded here."""
    DONE = "done"
    FAILED = "failed"


class AuditAct(msgspec.Struct, frozen=True, kw_only=True):
    """Action to record, with its actor and subject."""

    actor: str
    """Id of the key, subject of the token, or name of the certificate; `user@host` for the command line."""
    origin: str
    """Origin of the request: `command line`, or the listener and the client's address."""
    verb: AuditVerb
    subject: str = ""
    """Name of the object that the action changes; empty: all."""
    detail: dict[str, Any] = {}
    """Other parameters of the request. It must not contain secrets."""


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """Recorded action."""

    id: int
    at: datetime
    actor: str
    origin: str
    verb: str
    subject: str
    detail: dict[str, Any]
    outcome: AuditOutcome
    error: str
    """Reason of the failure; empty otherwise."""
