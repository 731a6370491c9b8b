"""Small problems in numbers, drawn or written by hand."""

from hypothesis import strategies as st

from autoscaler.decide.objective import Answer, Kind, Need, Option, Pool, Problem

PENALTY = 1000.0


def a_pool(hardware: str = "cpu", *, price: float = 1.0, now: int = 0, least: int = 0, most: int = 3) -> Pool:
    return Pool(
        hardware=hardware,
        price=price,
        start=price / 10,
        slots=2,
        memory_bytes=100,
        places=8,
        now=now,
        least=least,
        most=most,
    )


def a_kind(name: str, *, memory: float = 10, now: int = 0, most: int = 9, pool: int = 0, task: str = "digits") -> Kind:
    hold = memory / 1000
    return Kind(name=name, task=task, pool=pool, memory_bytes=memory, hold=hold, load=hold / 2, now=now, most=most)


def a_need(*options: Option, rate: float = 1.0, penalty: float = PENALTY) -> Need:
    return Need(task="digits", options=options, penalty=penalty, rate=rate)


def by_name(problem: Problem, answer: Answer) -> dict[str, int]:
    return {kind.name: n for kind, n in zip(problem.kinds, answer.instances, strict=True) if n}


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Of up to two hardware types, three variants and two needs; what there is may be too much or too little."""
    pools = tuple(
        a_pool(name, price=draw(st.sampled_from([0.5, 1.0, 3.0])), now=draw(st.integers(0, 2)), most=2)
        for name in ("cpu", "cuda")[: draw(st.integers(1, 2))]
    )
    kinds = tuple(
        a_kind(
            name,
            memory=draw(st.sampled_from([1, 30, 60, 120])),
            now=draw(st.integers(0, 1)),
            most=draw(st.integers(0, 2)),
            pool=draw(st.integers(0, len(pools) - 1)),
        )
        for name in "abc"
    )
    needs = tuple(draw(_needs(len(kinds))) for _ in range(draw(st.integers(0, 2))))
    most = draw(st.sampled_from([{}, {"digits": 1}]))
    return Problem(kinds=kinds, pools=pools, needs=needs, task_most=most)


@st.composite
def _needs(draw: st.DrawFn, kinds: int) -> Need:
    chosen = draw(st.lists(st.integers(0, kinds - 1), min_size=1, max_size=2, unique=True))
    if draw(st.booleans()):
        return a_need(*(Option(kind=kind, floor=draw(st.integers(1, 2))) for kind in chosen), rate=0.0)
    options = (
        Option(
            kind=kind,
            slots=draw(st.sampled_from([0.05, 0.4, 1.0, 2.5])),
            slot_cost=draw(st.sampled_from([0.01, 0.1])),
            loss_cost=draw(st.sampled_from([0.0, 0.2])),
        )
        for kind in chosen
    )
    return a_need(*options)
