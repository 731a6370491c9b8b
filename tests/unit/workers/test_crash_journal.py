from pathlib import Path

from workers.slots.crash_journal import OTHER_REGIONS, CrashJournal, RecordKey

A, B, C = ("infaas.variants.a", 0, 5), ("infaas.variants.a", 1, 7), ("infaas.variants.b", 0, 5)


def crash(file: Path, *batches: list[RecordKey]) -> None:
    """End a journal while each slot computes its batch, as a crash of the process does."""
    with CrashJournal(file, slots=2, max_crashes=3) as journal:
        for slot, keys in enumerate(batches):
            journal.begin(slot, keys)


def test_crash_journal_counts_each_crash_once(tmp_path: Path) -> None:
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


def test_crash_journal_does_not_blame_finished_records(tmp_path: Path) -> None:
    file = tmp_path / "cpu-0.journal"
    with CrashJournal(file, slots=1, max_crashes=3) as journal:
        journal.begin(0, [A, B])
        journal.end(0)
    with CrashJournal(file, slots=1, max_crashes=3) as journal:
        assert journal.crashes(A) == 0


def test_crash_journal_clear_persists(tmp_path: Path) -> None:
    file = tmp_path / "cpu-0.journal"
    crash(file, [A, B])
    with CrashJournal(file, slots=1, max_crashes=3) as journal:
        journal.clear(A)
    with CrashJournal(file, slots=1, max_crashes=3) as journal:
        assert (journal.crashes(A), journal.crashes(B)) == (0, 1)


def test_crash_journal_ignores_damaged_file(tmp_path: Path) -> None:
    file = tmp_path / "cpu-0.journal"
    file.write_bytes(b"\xff" * 200_000)
    file.with_suffix(".crashes").write_bytes(b"[not json")
    with CrashJournal(file, slots=1, max_crashes=3) as journal:
        assert journal.crashes(A) == 0


def test_crash_journal_truncates_batch_larger_than_region(tmp_path: Path) -> None:
    file = tmp_path / "cpu-0.journal"
    crash(file, [("t", 0, offset) for offset in range(10_000)])
    with CrashJournal(file, slots=2, max_crashes=3) as journal:
        assert journal.crashes(("t", 0, 0)) == 1
        assert journal.crashes(("t", 0, 9_999)) == 0


def test_claimed_region_names_suspects_after_crash(tmp_path: Path) -> None:
    with CrashJournal(tmp_path / "journal", 1, 3) as journal:
        region = journal.claim()
        assert region is not None
        journal.begin(region, [A])
    with CrashJournal(tmp_path / "journal", 1, 3) as journal:
        assert journal.crashes(A) == 1
        region = journal.claim()
        assert region is not None
        journal.begin(region, [A])
        journal.release(region)
    with CrashJournal(tmp_path / "journal", 1, 3) as journal:
        assert journal.crashes(A) == 1


def test_claim_returns_nothing_when_regions_are_taken(tmp_path: Path) -> None:
    with CrashJournal(tmp_path / "journal", 1, 3) as journal:
        regions = [journal.claim() for _ in range(OTHER_REGIONS + 1)]
        assert regions[-1] is None
        assert len(set(regions)) == OTHER_REGIONS + 1
        assert regions[0] is not None
        journal.release(regions[0])
        assert journal.claim() == regions[0]
