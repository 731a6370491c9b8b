"""Tests of `infaas simulate` with several seeds, in processes of their own."""

from pathlib import Path

import msgspec

from simulator.catalogue import write_catalogue
from tests.unit.infaas.shell import Shell
from tests.unit.simulator.small_catalogue import CATALOGUE


def test_simulate_repeats_over_seeds(tmp_path: Path) -> None:
    write_catalogue(CATALOGUE, tmp_path / "small.json")
    load = ("--workload", "poisson:rate=40,seconds=5,tasks=digits", "--catalogue", str(tmp_path / "small.json"))
    shell = Shell(tmp_path)
    shown = shell("simulate", *load, "--fleet", "cpu=1", "--seeds", "3", "--seed", "1", "--json")
    assert shown.exit_code == 0, shown.stderr
    seeds = msgspec.json.decode(shown.stdout)["seeds"]
    alone = msgspec.json.decode(shell("simulate", *load, "--fleet", "cpu=1", "--seed", "3", "--json").stdout)
    assert list(seeds) == ["1", "2", "3"]
    assert seeds["3"] == alone["seeds"]["3"] != seeds["2"]
    table = shell("simulate", *load, "--fleet", "cpu=1", "--seeds", "2").stdout
    assert "deviation" in table
    assert "±" in table
