"""Dead letters: their reasons, headers and payloads as text, replay and drop.

The list is read from Kafka, so it is read when the page is opened and not while it is open.
"""

from typing import Any, Final

from admin.dead_letters import DroppedLetters, ReplayedLetters, drop, letter_id, list_letters, replay
from admin.dead_letters import show as show_letter
from gateway.console.page import Act, ActOutcome, Page
from gateway.console.visit import Visit
from schemas.access import Role

_LISTED: Final = 100
_NAMED: Final = 3


async def _load(visit: Visit) -> dict[str, Any]:
    task, reason, done = visit.text("task"), visit.text("reason"), visit.text("done")
    letters = await visit.call(list_letters, task=task or None, reason=reason or None, done=done or None, limit=_LISTED)
    return {"letters": letters[::-1], "task": task, "reason": reason, "done": bool(done), "most": _LISTED}


async def _load_letter(visit: Visit) -> dict[str, Any]:
    place = letter_id(f"{visit.request.match_info['partition']}/{visit.request.match_info['offset']}")
    return {"letter": await visit.call(show_letter, partition=place.partition, offset=place.offset)}


def _tell_replay(done: ReplayedLetters) -> ActOutcome:
    parts = [f"Replayed {done.replayed} of {done.handled}."]
    if done.answered:
        parts.append(f"{done.answered} had an answer already.")
    parts += [f"{name}: {why}." for name, why in list(done.passed_over.items())[:_NAMED]]
    if done.after:
        parts.append("More match: replay again.")
    changed = done.replayed + done.answered > 0
    return ActOutcome(" ".join(parts), link="/console/dead-letters", link_text="Reload the list", changed=changed)


def _tell_drop(done: DroppedLetters) -> ActOutcome:
    more = " More match: drop again." if done.after else ""
    link, changed = "/console/dead-letters", done.dropped > 0
    return ActOutcome(f"Dropped {done.dropped}.{more}", link=link, link_text="Reload the list", changed=changed)


PAGES: Final = (
    Page(
        path="/console/dead-letters",
        title="Dead letters",
        template="dead_letters.html",
        load=_load,
        role=Role.ADMIN,
        menu="Dead letters",
    ),
    Page(
        path="/console/dead-letters/{partition}/{offset}",
        title="Dead letter",
        template="dead_letter.html",
        load=_load_letter,
        role=Role.ADMIN,
    ),
)
ACTS: Final = (
    Act("/console/dead-letters/replay", replay, _tell_replay),
    Act("/console/dead-letters/drop", drop, _tell_drop),
)
