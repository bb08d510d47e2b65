"""How far a delta is trusted, without a host."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from sampling.colour_map import colour_map
from sampling.resize import with_detail
from sampling.trust import Trust, trusted


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


DELTA, SEEN, PREDICTION = (random(2, 4, 8, 8, seed=k) for k in range(3))


def test_where_source_and_target_agree_the_delta_stays_as_it_is():
    assert torch.equal(trusted(DELTA, torch.zeros_like(DELTA), PREDICTION, Trust(0.15)), DELTA)


@pytest.mark.parametrize("disagreement", [torch.zeros_like(SEEN), SEEN])
def test_no_delta_stays_none(disagreement):
    nothing = torch.zeros_like(DELTA)
    assert torch.equal(trusted(nothing, disagreement, PREDICTION, Trust(0.15)), nothing)


@given(st.floats(0.05, 2))
def test_half_is_trusted_where_the_disagreement_is_at_its_limit(limit):
    disagreement = SEEN / SEEN.flatten(1).norm(dim=1)[:, None, None, None]
    disagreement = limit * disagreement * DELTA.flatten(1).norm(dim=1)[:, None, None, None]
    half = (DELTA + colour_map(PREDICTION - disagreement, DELTA, PREDICTION)) / 2
    torch.testing.assert_close(trusted(DELTA, disagreement, PREDICTION, Trust(limit)), half)


def test_samples_of_a_batch_are_trusted_one_by_one():
    disagreement = torch.stack([torch.zeros_like(SEEN[0]), 100 * SEEN[1]])
    found = trusted(DELTA, disagreement, PREDICTION, Trust(0.15))
    assert torch.equal(found[0], DELTA[0])
    torch.testing.assert_close(found[1:], trusted(DELTA[1:], disagreement[1:], PREDICTION[1:], Trust(0.15)))
    assert not torch.allclose(found[1], DELTA[1], atol=0.1)


@pytest.mark.parametrize("shape", [(8, 8), (3, 6, 6)])
def test_a_change_of_colours_is_found_and_follows_the_targets_shapes(shape):
    """The delta inverts the colours of what the source sees; the target sees something else."""
    seen, prediction = random(1, 4, *shape, seed=5), random(1, 4, *shape, seed=6)
    turn = random(4, 4, seed=7)

    def change(latent):
        return torch.einsum("ij,bj...->bi...", turn, latent) + 0.7

    found = colour_map(seen, change(seen), prediction)
    assert (found - change(prediction)).abs().max() < 0.05 * change(prediction).abs().max()


def test_a_rotation_of_the_channels_makes_no_difference():
    turn = torch.linalg.qr(random(4, 4, seed=8)).Q

    def rotated(latent):
        return torch.einsum("ij,bj...->bi...", turn, latent)

    expected = rotated(colour_map(SEEN, DELTA, PREDICTION))
    torch.testing.assert_close(colour_map(*map(rotated, (SEEN, DELTA, PREDICTION))), expected)


def coarse(latent):
    return functional.interpolate(functional.avg_pool2d(latent, 2), scale_factor=2)


def test_a_coarse_change_of_colours_reaches_the_targets_detail():
    """The source sees the target's picture coarsely, and the delta turns its colours."""
    turn = random(4, 4, seed=7)
    prediction = random(1, 4, 16, 16, seed=6)

    def change(latent):
        return torch.einsum("ij,bj...->bi...", turn, latent) + 0.7

    delta, disagreement = change(coarse(prediction)), prediction - coarse(prediction)
    found = with_detail(delta, disagreement, prediction, coarse)
    assert (found - change(prediction)).norm() < 0.1 * (delta - change(prediction)).norm()


def test_a_delta_that_is_the_same_everywhere_has_no_detail():
    delta = torch.ones(1, 4, 16, 16)
    prediction = random(1, 4, 16, 16, seed=6)
    torch.testing.assert_close(with_detail(delta, SEEN[:1].repeat(1, 1, 2, 2), prediction, coarse), delta)
    assert torch.equal(with_detail(0 * delta, prediction, prediction, coarse), 0 * delta)
