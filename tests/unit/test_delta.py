"""The method's arithmetic, without a host."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sampling.delta import add_all
from sampling.errors import DeltaError, require_finite, step_of

strengths = st.floats(-10, 10, width=32)
seeds = st.integers(0, 2**32)


def predictions(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 4, 3, 5, generator=generator) for _ in range(3)]


@given(seeds, strengths)
def test_an_adapter_that_changes_nothing_leaves_the_target_bit_for_bit(seed, strength):
    target, source, _ = predictions(seed)
    assert torch.equal(add_all(target, [strength * (source - source)]), target)


@given(seeds)
def test_strength_one_on_the_source_itself_gives_the_adapted(seed):
    _, source, adapted = predictions(seed)
    torch.testing.assert_close(add_all(source, [1.0 * (adapted - source)]), adapted)


@given(seeds, strengths)
def test_two_halves_of_a_delta_are_the_whole_and_its_negative_cancels_it(seed, strength):
    target, source, adapted = predictions(seed)
    whole = add_all(target, [strength * (adapted - source)])
    half = add_all(target, [strength / 2 * (adapted - source)])
    torch.testing.assert_close(add_all(half, [strength / 2 * (adapted - source)]), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(add_all(whole, [-strength * (adapted - source)]), target, rtol=1e-4, atol=1e-4)


SIGMAS = torch.tensor([14.6, 7.0, 2.0, 0.5, 0.0])


@pytest.mark.parametrize(("sigma", "step"), [(14.6, 1), (10.0, 1), (7.0, 2), (3.0, 2), (0.5, 4), (0.1, 4), (99.0, 1)])
def test_the_step_is_the_one_whose_noise_level_was_reached(sigma, step):
    assert step_of(sigma, SIGMAS) == step


@pytest.mark.parametrize(("sigma", "step"), [(0.0, 1), (0.3, 1), (0.5, 2), (7.0, 4), (10.0, 4)])
def test_the_step_of_a_schedule_that_rises(sigma, step):
    assert step_of(sigma, SIGMAS.flip(0)) == step


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_prediction_that_is_not_finite_is_named(bad):
    broken = torch.zeros(1, 4, 2, 2)
    broken[0, 1, 0, 0] = bad
    fine = torch.zeros(1, 4, 2, 2)
    with pytest.raises(DeltaError, match=r"adapted model returned 1 values of 16.*step 3 of 4 \(sigma 2\)"):
        require_finite({"target": fine, "adapted": broken, "source": broken}, broken, 2.0, SIGMAS)
    with pytest.raises(DeltaError, match=r"All models returned finite numbers.* 1 values of 16 .*step 3 of 4.*bridge"):
        require_finite({"target": fine}, broken, 2.0, SIGMAS)


def test_finite_predictions_pass():
    require_finite({"target": torch.zeros(2), "adapted": torch.ones(2)}, torch.ones(2), 2.0, SIGMAS)
