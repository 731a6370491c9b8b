"""Tests of the lists of models and variants."""

from msgspec.structs import replace

from admin.catalog import ListedVariant
from infaas.cli.listing import variant_row
from schemas.generation import GenerationProfile, PrefillTime, StepTime
from schemas.hardware import cost_per_1000, list_price, usd
from tests.example_rows import a_profile, a_variant

GENERATION = GenerationProfile(
    context_tokens=2048, sequences=4, prompt_tokens=10, answer_tokens=21, bytes_per_token=4.0,
    prefill=(PrefillTime(tokens=10, p50_s=0.1, p99_s=0.2),), step=(StepTime(sequences=1, p50_s=0.01, p99_s=0.02),),
)  # fmt: skip


def cost_of(generation: GenerationProfile | None) -> object:
    profile = replace(a_profile(batch_s=0.3), generation=generation)
    return variant_row(ListedVariant(variant=a_variant(), profile=profile, measure="accuracy"))[5]


def test_variant_row_gives_cost_of_query_or_of_generated_tokens() -> None:
    """A slower model may cost less a token: answers of different lengths cannot be compared by the answer."""
    price, token_s = list_price("cpu", 1), (0.1 + 20 * 0.01) / 21
    assert cost_of(None) == usd(cost_per_1000(0.3, price))
    assert cost_of(GENERATION) == usd(cost_per_1000(token_s, price)) + " (tokens)"
