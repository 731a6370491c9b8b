"""Tests of the disk space of a chaos campaign: long logs keep their ends, and all other files stay unchanged."""

from pathlib import Path

from tests.chaos.resources import cut_logs, disk_mib


def test_cut_logs_keeps_end_of_open_log(tmp_path: Path) -> None:
    segment = tmp_path / "kafka" / "data" / "topic-0" / "00000000000000000000.log"
    short, long = tmp_path / "logs" / "selector-0.log", tmp_path / "logs" / "worker-0.log"
    for path in (segment, short, long):
        path.parent.mkdir(parents=True, exist_ok=True)
    segment.write_bytes(b"s" * 5_000)
    short.write_bytes(b"short")
    with long.open("ab") as writer:
        writer.write(b"a" * 4_000 + b"the end")
        writer.flush()
        cut_logs(tmp_path, most_bytes=1_000, kept_bytes=7)
        assert long.read_bytes() == b"the end"
        writer.write(b", and on")
    assert long.read_bytes() == b"the end, and on"
    assert (segment.stat().st_size, short.read_bytes()) == (5_000, b"short")
    assert 0.0 < disk_mib(tmp_path) < 1.0
