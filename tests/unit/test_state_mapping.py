"""Noise levels, resizing, bridges and their fit, without a host."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sampling.bridge_fit import fit_bridge
from sampling.bridges import Affine, LatentShape, affine_of, folds, polar, same_latents
from sampling.errors import DeltaError
from sampling.noise_levels import NoiseLevels, known_range, mix, noise_in, noise_to_signal, sigma_at
from sampling.resize import Resize, box_filter, mask_for
from sampling.state_mapping import ProjectedState, StateMapping, noise_map

DIFFUSION = NoiseLevels(False, 0.0292, 14.6146)
FLOW = NoiseLevels(True, 0.001, 1.0)
KINDS = [
    DIFFUSION,
    FLOW,
    NoiseLevels(True, 0.003, 1.0, noise_std=8.0),
    NoiseLevels(False, 0.002, 80.0, clean_std=0.5),
]
SD15, SDXL, FLUX, FLUX2 = LatentShape(4, 8), LatentShape(4, 8), LatentShape(16, 8), LatentShape(128, 16)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.sampled_from(KINDS), st.floats(0.03, 14.0))
def test_a_ratio_has_one_sigma(levels, ratio):
    found = noise_to_signal(sigma_at(torch.tensor([ratio]), levels), levels)
    torch.testing.assert_close(found, torch.tensor([ratio]), rtol=1e-4, atol=1e-5)


def test_the_known_pairs_of_sigmas():
    """Half noise and half signal is sigma 0.5 of a flow, sigma 1 of a diffusion model."""
    assert noise_to_signal(torch.tensor([0.5, 1.0]), FLOW).tolist() == [1.0, float("inf")]
    assert sigma_at(torch.tensor([1.0, float("inf"), 0.0]), FLOW).tolist() == [0.5, 1.0, 0.0]
    assert noise_to_signal(torch.tensor([3.0]), DIFFUSION).item() == 3.0
    assert known_range(DIFFUSION, FLOW) == pytest.approx((0.0292, 14.6146), rel=1e-5)


@pytest.mark.parametrize("levels", KINDS)
def test_noise_is_split_off_and_mixed_in_again(levels):
    clean, unit, sigma = noise(2, 4, 3, 3), noise(2, 4, 3, 3, seed=1), torch.tensor([0.4, 0.9])
    x = mix(clean, unit, sigma, levels)
    torch.testing.assert_close(noise_in(x, clean, sigma, levels), unit, rtol=1e-4, atol=1e-4)


def test_the_same_latents_and_levels_pass_untouched():
    x, sigma = noise(1, 4, 2, 2), torch.tensor([3.0])
    mapping = StateMapping(DIFFUSION, (DIFFUSION, DIFFUSION))
    seen, level = ProjectedState(mapping, x, sigma, (x,)).for_branch(DIFFUSION)
    assert seen is x and level is sigma


def test_within_a_narrower_range_nothing_is_rounded():
    narrow = NoiseLevels(False, 0.1, 5.0)
    mapping = StateMapping(DIFFUSION, (narrow, narrow))
    x, clean, sigma = noise(3, 4, 2, 2), noise(3, 4, 2, 2, seed=1), torch.tensor([3.3333, 14.0, 0.05])
    seen, level = ProjectedState(mapping, x, sigma, (clean,)).for_branch(narrow)
    assert torch.equal(seen[0], x[0]) and level[0] == sigma[0]
    assert level[1:].tolist() == pytest.approx([5.0, 0.1])
    torch.testing.assert_close(seen[1], clean[1] + (x[1] - clean[1]) / 14 * 5)


@given(st.integers(1, 24), st.integers(0, 40))
def test_the_box_filter_is_an_average(after, more):
    weights = box_filter(after, after + more)
    assert weights.shape == (after, after + more)
    torch.testing.assert_close(weights.sum(1), torch.ones(after, dtype=torch.float64))
    torch.testing.assert_close(weights.sum(0), torch.full((after + more,), after / (after + more), dtype=torch.float64))


@pytest.mark.parametrize("small", [(32, 32), (48, 40), (64, 17)])
def test_resized_noise_stays_white_and_of_unit_variance(small):
    resize = Resize((64, 64), small)
    out = resize.noise_down(noise(200, 4, 64, 64)).flatten(2)
    assert out.std().item() == pytest.approx(1, abs=0.01)
    between_neighbours = (out[..., 1:] * out[..., :-1]).mean().item()
    assert abs(between_neighbours) < 0.01
    flat = torch.full((1, 4, *small), 0.3)
    torch.testing.assert_close(resize.up(resize.down(torch.full((1, 4, 64, 64), 0.3))), torch.full((1, 4, 64, 64), 0.3))
    torch.testing.assert_close(resize.down(torch.full((1, 4, 64, 64), 0.3)), flat)


def test_halved_noise_is_the_noise_of_the_halved_picture():
    """Averaging four pixels halves the noise: the premise of `same_detail`."""
    resize, unit = Resize((8, 8), (4, 4)), noise(1, 4, 8, 8)
    torch.testing.assert_close(resize.down(unit), resize.noise_down(unit) * resize.ratio)


@pytest.mark.parametrize(
    ("source", "target"), [(SD15, FLUX), (FLUX, SD15), (SD15, FLUX2), (FLUX2, SD15), (FLUX2, FLUX)]
)
def test_noise_through_a_bridge_stays_unit_noise(source, target):
    fold, unfold = folds(source, target)
    after, before = source.channels * unfold**2, target.channels * fold**2
    fitted = Affine(noise(after, before, seed=2) * 3, noise(after, seed=3), fold, unfold)
    size = 32 * fold, 32 * unfold
    carry = noise_map(fitted, (source.channels, size[1], size[1]), range(50))
    out = carry(noise(50, target.channels, size[0], size[0]))
    assert out.shape == (50, source.channels, size[1], size[1])
    each = out.movedim(1, 0).flatten(1)
    torch.testing.assert_close(torch.cov(each), torch.eye(source.channels), rtol=0, atol=0.03)


def test_directions_that_the_target_lacks_have_fixed_noise():
    carry = noise_map(Affine(torch.eye(16, 4), torch.zeros(16)), (16, 8, 8), [4])
    one, other = (carry(noise(1, 4, 8, 8, seed=seed)) for seed in (1, 2))
    torch.testing.assert_close(one[:, :4], noise(1, 4, 8, 8, seed=1))
    assert torch.equal(one[:, 4:], other[:, 4:]) and one[:, 4:].std() > 0.5
    assert torch.equal(carry(noise(1, 4, 8, 8, seed=1)), one)


def test_the_polar_factor_of_a_scaled_rotation_is_the_rotation():
    turn = torch.linalg.qr(noise(5, 5))[0]
    torch.testing.assert_close(polar(turn * 1.7), turn)


def test_a_map_is_found_by_trying_it():
    known = Affine(noise(16, 8), noise(16, seed=1), fold=2, unfold=1)
    found = affine_of(known, 2, 2, 1)
    torch.testing.assert_close(found.weight, known.weight)
    torch.testing.assert_close(found.bias, known.bias)


def test_same_latents_change_nothing():
    latent = noise(1, 4, 4, 4)
    bridge = same_latents(SD15)
    assert torch.equal(bridge.to_source(latent), latent)
    assert torch.equal(bridge.delta_to_target(latent, latent * 2), -latent)


@pytest.mark.parametrize(("source", "target"), [(SD15, FLUX), (FLUX2, SD15), (SD15, FLUX2)])
def test_a_linear_relation_is_fitted_exactly(source, target):
    few, many = sorted((source, target), key=lambda shape: shape.channels * 256 // shape.downscale**2)
    fold, unfold = folds(few, many)
    inputs, outputs = few.channels * unfold**2, many.channels * fold**2
    lift = Affine(noise(outputs, inputs, seed=5), noise(outputs, seed=6), unfold, fold)
    small = [noise(few.channels, 16 // few.downscale * 8, 16 // few.downscale * 8, seed=k) for k in range(6)]
    large = [lift(latent[None])[0] for latent in small]
    pairs = list(zip(small, large, strict=True)) if few is source else list(zip(large, small, strict=True))
    fit = fit_bridge(pairs, source, target)
    assert fit.held_out
    assert min(fit.to_source + fit.to_target) > 0.99999
    assert len(fit.to_source) == source.channels and len(fit.to_target) == target.channels
    torch.testing.assert_close(fit.bridge.to_source(pairs[0][1][None])[0], pairs[0][0], rtol=1e-3, atol=1e-3)
    difference = fit.bridge.delta_to_target(pairs[1][0][None], pairs[0][0][None])[0]
    torch.testing.assert_close(difference, pairs[1][1] - pairs[0][1], rtol=1e-3, atol=2e-3)


def test_r2_says_what_was_not_explained():
    """A channel of noise alone cannot be told from the others; few pictures are said to be few."""
    source = [noise(4, 32, 32, seed=k) for k in range(10)]
    target = [torch.cat([s[:2], s[:1] + noise(1, 32, 32, seed=50 + k), noise(1, 32, 32, seed=90 + k)])
              for k, s in enumerate(source)]  # fmt: skip
    pairs = list(zip(source, target, strict=True))
    fit = fit_bridge(pairs, SD15, SDXL)
    assert fit.to_target == pytest.approx([1, 1, 0.5, 0], abs=0.03)
    assert "not fitted" in fit.report() and "0.500" not in fit.report().splitlines()[1]
    assert not fit_bridge(pairs[:4], SD15, SDXL).held_out
    assert "give five or more" in fit_bridge(pairs[:4], SD15, SDXL).report()


def test_pixels_have_to_fit_into_each_other():
    with pytest.raises(DeltaError, match=r"4 channels at 1/8.*16 channels at 1/42.*whole multiple"):
        folds(LatentShape(4, 8), LatentShape(16, 42))
    with pytest.raises(DeltaError, match=r"13x9.*multiples of 2"):
        Affine(torch.eye(16, 16), torch.zeros(16), fold=2)(noise(1, 4, 9, 13))


@pytest.mark.parametrize(
    ("mask", "latent"),
    [
        ((1, 1, 8, 8), (2, 4, 4, 6)),
        ((2, 1, 1, 8, 8), (2, 4, 4, 6)),
        ((1, 1, 3, 8, 8), (1, 4, 3, 8, 8)),
        ((1, 1, 9), (1, 4, 9)),
    ],
)
def test_a_mask_for_latents_of_images_videos_and_sound(mask, latent):
    made = mask_for(torch.full(mask, 0.3), torch.zeros(latent))
    assert (made * torch.zeros(latent)).shape == latent
    torch.testing.assert_close(made, torch.full_like(made, 0.3))
