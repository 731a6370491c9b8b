"""Tests of the trials that the peer benchmark selects for each workload."""

from bench.peers import ours
from bench.peers.contest import Wanted
from bench.peers.peers import PEERS
from bench.peers.workloads import WORKLOADS


def wanted(*names: str) -> Wanted:
    return Wanted([WORKLOADS[name] for name in names], list(PEERS.values()), ours=True)


def test_trials_of_plain_workload_include_all_servers() -> None:
    assert [peer.name for peer, _workload in wanted("S").of_peers] == list(PEERS)
    assert [way for way, _workload in wanted("S").of_ours()] == list(ours.WAYS)
    assert [way for way, _workload in wanted("S").of_ours(turned=True)] == list(reversed(ours.WAYS))


def test_trials_of_mix_use_one_peer_and_tasks() -> None:
    mixes = wanted("sentiment mix", "mnist mix")
    assert [(peer.name, workload.name) for peer, workload in mixes.of_peers] == [("triton", "sentiment mix")]
    assert [(way, workload.name) for way, workload in mixes.of_ours()] == [
        (ours.BY_TASK, "sentiment mix"),
        (ours.BY_CASCADE, "sentiment mix"),
        (ours.BY_TASK, "mnist mix"),
    ]
    assert mixes.of_ours(turned=True) == mixes.of_ours(), "a cascade that is found is there for all that come after it"


def test_task_requests_have_equal_count_per_accuracy() -> None:
    mix = WORKLOADS["mnist mix"]
    asked = [request.headers["infaas-min-accuracy"] for request in ours.task_requests(mix)]
    assert {accuracy: asked.count(accuracy) for accuracy in asked} == {"0.98": len(mix.inputs), "0.9": len(mix.inputs)}
