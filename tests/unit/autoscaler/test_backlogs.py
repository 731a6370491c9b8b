"""Tests of backlogs: the waiting inputs by task, mode and variant."""

from autoscaler.decide.snapshot import Backlog
from autoscaler.observe.backlogs import TopicBacklog, backlogs_of, with_lanes
from schemas.topics import offline_topic, task_topic, variant_topic
from tests.store_rows import a_variant

VARIANT = "mlp.onnx-fp32.cpu"


def test_backlogs_of_counts_inputs_by_task_and_variant() -> None:
    waiting = {
        task_topic("digits"): TopicBacklog(1, 2.0),
        offline_topic("digits"): TopicBacklog(10, None),
        variant_topic(VARIANT): TopicBacklog(3, 5.0),
        task_topic("sentiment"): TopicBacklog(7, 1.0),
        variant_topic("gone.onnx-fp32.cpu"): TopicBacklog(9, 9.0),
    }
    found = backlogs_of(waiting, ["digits", "sentiment"], [a_variant(VARIANT)], {"digits": 4.0})
    assert found == (
        Backlog(task="digits", inputs=4.0, age_s=2.0),
        Backlog(task="digits", offline=True, inputs=40.0),
        Backlog(task="digits", variant=VARIANT, inputs=12.0, age_s=5.0),
        Backlog(task="sentiment", inputs=7.0, age_s=1.0),
    )


def test_with_lanes_divides_lanes_by_task() -> None:
    waiting = {"infaas.lanes.offline": TopicBacklog(900, 50.0), "infaas.tasks.digits.offline": TopicBacklog(10, 80.0)}
    found = with_lanes(waiting, {"digits": 100, "reviews": 200})
    assert found["infaas.tasks.digits.offline"] == TopicBacklog(310, 80.0)
    assert found["infaas.tasks.reviews.offline"] == TopicBacklog(600, 50.0)
    assert with_lanes(waiting, {}) == waiting
    assert with_lanes({}, {"digits": 1}) == {}
