from pathlib import Path

from workers.crash_journal import CrashJournal, RecordKey

A, B, C = ("infaas.variants.a", 0, 5), ("infaas.variants.a", 1, 7), ("infaas.variants.b", 0, 5)


def crash(file: Path, *batches: list[RecordKey]) -> None:
    """A life that ends while each slot computes its batch."""
    with CrashJournal(file, slots=2, max_crashes=3) as journal:
        for slot, keys in enumerate(batches):
            journal.begin(slot, keys)


def test_what_was_in_computation_is_counted_once_a_crash(tmp_path: Path) -> None:
    file = tmp_path / "w" / "cpu-0.journal"
    crash(file, [A, B], [C])
    crash(file, [A])
    with CrashJournal(file, slots=2, max_crashes=3) as journal:
        assert [journal.crashes(key) for key in (A, B, C)] == [2, 1, 1]
        assert not journal.is_given_up(A)
    crash(file, [A])
    with CrashJournal(file, slots=2, max_crashes=3) as journal:
        assert journal.is_given_up(A)
        assert not journal.is_given_up(B)


def test_what_was_computed_is_not_blamed(tmp_path: Path) -> None:
    file = tmp_path / "cpu-0.journal"
    with CrashJournal(file, slots=1, max_crashes=3) as journal:
        journal.begin(0, [A, B])
        journal.end(0)
    with CrashJournal(file, slots=1, max_crashes=3) as journal:
        assert journal.crashes(A) == 0


def test_a_suspect_that_is_answered_is_cleared_for_good(tmp_path: Path) -> None:
    file = tmp_path / "cpu-0.journal"
    crash(file, [A, B])
    with CrashJournal(file, slots=1, max_crashes=3) as journal:
        journal.clear(A)
    with CrashJournal(file, slots=1, max_crashes=3) as journal:
        assert (journal.crashes(A), journal.crashes(B)) == (0, 1)


def test_a_broken_journal_blames_nobody(tmp_path: Path) -> None:
    file = tmp_path / "cpu-0.journal"
    file.write_bytes(b"\xff" * 200_000)
    file.with_suffix(".crashes").write_bytes(b"[not json")
    with CrashJournal(file, slots=1, max_crashes=3) as journal:
        assert journal.crashes(A) == 0


def test_a_batch_larger_than_a_region_is_noted_in_part(tmp_path: Path) -> None:
    file = tmp_path / "cpu-0.journal"
    crash(file, [("t", 0, offset) for offset in range(10_000)])
    with CrashJournal(file, slots=2, max_crashes=3) as journal:
        assert journal.crashes(("t", 0, 0)) == 1
        assert journal.crashes(("t", 0, 9_999)) == 0
