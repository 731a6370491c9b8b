from workers.slot_backlog import WaitingBatches, slot_backlogs_s


def test_slot_backlogs_s_assigns_batches_to_earliest_slot() -> None:
    assert slot_backlogs_s([3.0, 1.0], []) == (1.0, 3.0)
    assert slot_backlogs_s([3.0, 1.0], [WaitingBatches(4.0, 1, 1)]) == (3.0, 5.0)
    assert slot_backlogs_s([3.0, 1.0], [WaitingBatches(4.0, 2, 1)]) == (5.0, 7.0)


def test_slot_backlogs_s_of_wide_batch_waits_for_enough_slots() -> None:
    assert slot_backlogs_s([0.0, 1.0, 3.0], [WaitingBatches(4.0, 1, 2)]) == (3.0, 5.0, 5.0)
    assert slot_backlogs_s([0.0, 1.0], [WaitingBatches(4.0, 1, 8)]) == (5.0, 5.0)


def test_slot_backlogs_s_totals_thousands_of_batches() -> None:
    soonest, last = slot_backlogs_s([0.0, 0.0], [WaitingBatches(0.5, 10_001, 1)])
    assert soonest <= 0.25 * 10_001 <= last
    assert soonest + last == 0.5 * 10_001
