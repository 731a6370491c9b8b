"""Tests of the choice of the next token."""

from typing import Any

import numpy as np
import pytest

from runtimes.decoder.sampling import TokenSampler, likeliest, log_shares
from schemas.generation import GenerationOptions

LOGITS = np.log(np.array([0.05, 0.4, 0.1, 0.3, 0.15], np.float32))
DRAWS = 400


def drawn(prompt: tuple[int, ...] = (), ends: tuple[int, ...] = (), **options: Any) -> list[int]:
    sampler = TokenSampler(GenerationOptions(seed=1, **options), prompt, ends)
    return [sampler.choose(LOGITS) for _ in range(DRAWS)]


def test_sampler_draws_by_shares() -> None:
    shares = np.bincount(drawn(), minlength=5) / DRAWS
    assert shares == pytest.approx(np.exp(LOGITS), abs=0.08)


@pytest.mark.parametrize("seed", [-1, 0, 7, (1 << 64) - 1])
def test_sampler_repeats_tokens_of_seed(seed: int) -> None:
    first, second = (TokenSampler(GenerationOptions(seed=seed), (), ()) for _ in range(2))
    assert [first.choose(LOGITS) for _ in range(50)] == [second.choose(LOGITS) for _ in range(50)]


def test_sampler_without_seed_draws_several_tokens() -> None:
    sampler = TokenSampler(GenerationOptions(), (), ())
    assert len({sampler.choose(LOGITS) for _ in range(DRAWS)}) > 1


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({"temperature": 0}, {1}),
        ({"temperature": 0.01}, {1}),
        ({"top_k": 2}, {1, 3}),
        ({"top_k": 9}, {0, 1, 2, 3, 4}),
        ({"top_p": 0}, {1}),
        ({"top_p": 0.5}, {1, 3}),
        ({"top_p": 0.8}, {1, 3, 4}),
        ({"top_k": 3, "top_p": 0.6}, {1, 3}),
        ({"temperature": 5, "top_p": 0.5}, {1, 3}),
    ],
)
def test_sampler_limits_tokens(options: dict[str, Any], tokens: set[int]) -> None:
    assert set(drawn(**options)) == tokens


def test_sampler_without_end_draws_other_tokens() -> None:
    assert set(drawn(ends=(1, 3), ignore_eos=True)) == {0, 2, 4}
    assert set(drawn(ends=(1, 3))) == {0, 1, 2, 3, 4}


def test_penalties_count_tokens_of_prompt_and_answer() -> None:
    greedy = GenerationOptions(temperature=0, presence_penalty=3)
    sampler = TokenSampler(greedy, (1,), ())
    assert [sampler.choose(LOGITS) for _ in range(5)] == [3, 4, 2, 0, 1]
    sampler = TokenSampler(GenerationOptions(temperature=0, frequency_penalty=0.2), (1,), ())
    assert [sampler.choose(LOGITS) for _ in range(4)] == [1, 3, 1, 3]


def test_sampler_leaves_logits_as_they_are() -> None:
    before = LOGITS.copy()
    drawn((1,), (2,), ignore_eos=True, presence_penalty=1, top_k=3, top_p=0.9)
    assert (before == LOGITS).all()


def test_log_shares_are_log_probabilities() -> None:
    assert log_shares(LOGITS + 900) == pytest.approx(LOGITS, abs=1e-3)


@pytest.mark.parametrize(("count", "tokens"), [(0, []), (1, [1]), (3, [1, 3, 4]), (9, [1, 3, 4, 2, 0])])
def test_likeliest_orders_tokens(count: int, tokens: list[int]) -> None:
    assert likeliest(LOGITS, count).tolist() == tokens
