from workers.slot_backlog import WaitingBatches, slot_backlogs_s


def test_what_waits_begins_in_the_slot_that_is_free_first() -> None:
    assert slot_backlogs_s([3.0, 1.0], []) == (1.0, 3.0)
    assert slot_backlogs_s([3.0, 1.0], [WaitingBatches(4.0, 1, 1)]) == (3.0, 5.0)
    assert slot_backlogs_s([3.0, 1.0], [WaitingBatches(4.0, 2, 1)]) == (5.0, 7.0)


def test_a_wide_batch_begins_when_there_are_slots_for_it() -> None:
    assert slot_backlogs_s([0.0, 1.0, 3.0], [WaitingBatches(4.0, 1, 2)]) == (3.0, 5.0, 5.0)
    assert slot_backlogs_s([0.0, 1.0], [WaitingBatches(4.0, 1, 8)]) == (5.0, 5.0)


def test_thousands_of_batches_take_as_long_as_they_do_without_being_taken_one_by_one() -> None:
    soonest, last = slot_backlogs_s([0.0, 0.0], [WaitingBatches(0.5, 10_001, 1)])
    assert soonest <= 0.25 * 10_001 <= last
    assert soonest + last == 0.5 * 10_001
