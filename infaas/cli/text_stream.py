"""`infaas query --stream`: prints a generative answer as it is made, then its times on stderr."""

import time
from collections.abc import Sequence

import msgspec
import typer

from infaas.client.answer import Answer, TextPart
from infaas.client.client import InfaasClient, QueryOptions, SystemOptions
from infaas.client.generation import Prompt
from schemas.errors import InvalidRequest
from schemas.hardware import priced_unit, usd

_RESTARTED = "[the answer restarts: a crash made another computation necessary]"
_ROLES = ("user", "assistant")


async def print_stream(
    system: SystemOptions, task: str, prompt: Prompt, options: QueryOptions, *, as_json: bool = False
) -> None:
    """Send a prompt, and print the parts of its answer.

    Raises:
        QueryError: the query failed, perhaps after some parts.
    """
    began_s, first_s, tokens = time.perf_counter(), 0.0, 0
    async with InfaasClient(**system) as client:
        async for part in client.stream(task, prompt, **options):
            if part.text and not first_s:
                first_s = time.perf_counter() - began_s
            tokens += part.tokens
            if as_json:
                typer.echo(msgspec.json.encode(_as_json(part)))
            elif part.restarted:
                typer.echo(f"\n{_RESTARTED}", err=True)
            elif part.answer is None:
                typer.echo(part.text, nl=False)
            else:
                typer.echo()
                typer.echo(_told(part.answer, first_s, tokens), err=True)


def prompt_of(texts: Sequence[str], *, chat: bool) -> Prompt:
    """Return the prompt or the chat of texts on the command line.

    Raises:
        InvalidRequest: there is no text, or there are several without a chat.
    """
    if not texts or (len(texts) > 1 and not chat):
        raise InvalidRequest("give one text as the prompt, or with --chat the messages of a chat")
    if not chat:
        return texts[0]
    return [{"role": _ROLES[place % 2], "content": text} for place, text in enumerate(texts)]


def _as_json(part: TextPart) -> dict[str, object]:
    if part.answer is None:
        return {"text": part.text, "tokens": part.tokens, "restarted": part.restarted}
    answer = {name: getattr(part.answer, name) for name in part.answer.__struct_fields__ if name != "outputs"}
    return {"text": "", "answer": answer}


def _told(answer: Answer, first_s: float, tokens: int) -> str:
    """Return the variant, and the times as the client measured them."""
    cost = "" if answer.cost is None else f", {usd(answer.cost)} per {priced_unit(generative=True)}"
    pace_ms = (answer.total_ms - first_s * 1e3) / max(tokens - 1, 1)
    times = f"first token after {first_s * 1e3:.0f} ms, then one each {pace_ms:.1f} ms"
    return f"{answer.variant} on {answer.worker}{cost}: {tokens} tokens, {times}"
