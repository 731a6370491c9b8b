"""A version is tried on a share of the queries and rolled back under load, through two selectors: every id counts."""

import pytest

from bench.rollout import SHARES, register_versions, try_and_roll_back
from tests.system.infaas.conftest import Cli

pytestmark = pytest.mark.timeout(400)
RATE = 50.0
QUERIES = 100


async def test_a_version_has_its_share_and_a_rollback_loses_nothing(cli: Cli) -> None:
    async with cli.up("--selectors=2"):
        state = await cli.json("status", "--wait")
        await register_versions(cli.home)
        seen = await try_and_roll_back(cli.home, state["gateway"], RATE, QUERIES)
        assert seen.errors == []
        assert len(seen.answers) == seen.asked
        assert seen.shown == 0, "who is answered never sees what a copy was answered"
        assert (seen.compared.version, seen.compared.against, seen.compared.failed) == (2, 1, 0)
        assert seen.undrawn == 0, "no query was answered by the new version that was not drawn"
        for share in SHARES:
            drawn, answered = seen.shares[share]
            assert answered <= drawn, "what is drawn stays with the old version where the new one would be late"
        assert seen.shares[SHARES[-1]][1] > 0
        history = await cli.json("history", "digits-net")
        assert [event["kind"] for event in history["events"]] == [
            "registered", "registered", "shadow", "shadow", "canary", "canary", "rolled back",
        ]  # fmt: skip
        assert all(event["by"] for event in history["events"])
        print(f"\n{seen.compared}\nshares {seen.shares}, last answer of the bad version after {seen.last_bad_s:.3f} s")
