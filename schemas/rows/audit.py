"""Rows of what administrators did: who, what, to what, when, from where, and what came of it."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class AuditVerb(StrEnum):
    """What an administrator does."""

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
    """What came of an act."""

    BEGUN = "begun"
    """It runs, or it was cut off: how far it came is not known here."""
    DONE = "done"
    FAILED = "failed"


class AuditAct(msgspec.Struct, frozen=True, kw_only=True):
    """An act that is to be recorded, by whom and on what."""

    actor: str
    """Id of the key, subject of the token or the certificate; from the command line `user@host`."""
    origin: str
    """Where it came from: `command line`, or the door and the address."""
    verb: AuditVerb
    subject: str = ""
    """Name of what is acted on; empty: everything."""
    detail: dict[str, Any] = {}
    """What else was asked for. No secret."""


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """An act as it was recorded."""

    id: int
    at: datetime
    actor: str
    origin: str
    verb: str
    subject: str
    detail: dict[str, Any]
    outcome: AuditOutcome
    error: str
    """Why it failed; empty otherwise."""
