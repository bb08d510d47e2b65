"""One state seen by other models (design, oracles 5 and 6), with denoisers that are known exactly."""

import comfy.latent_formats
import comfy.samplers
import pytest
import torch
import torch.nn.functional as F
from comfy.model_base import ModelType

from harness.nodes import option

from .gaussian import denoiser, latents, normal
from .tiny import advanced_sampler, bridge, delta_ksampler, ksampler, pair, relative_error

SAMPLERS = ["euler", "dpmpp_sde", "euler_ancestral", "euler_cfg_pp"]
KINDS = {
    "eps": (ModelType.EPS, {}),
    "v": (ModelType.V_PREDICTION, {}),
    "zero-terminal-SNR v": (ModelType.V_PREDICTION, {"zsnr": True}),
    "EDM": (ModelType.EDM, {"sigma_max": 120.0, "sigma_min": 0.002}),
    "flow": (ModelType.FLOW, {"shift": 1.0}),
    "flow with shift": (ModelType.FLOW, {"shift": 3.0}),
}
GENERATOR = torch.Generator().manual_seed(3)


def means(channels, count=3):
    return [torch.randn(1, channels, 1, 1, generator=GENERATOR) for _ in range(count)]


def orthonormal(rows, columns):
    return torch.linalg.qr(torch.randn(max(rows, columns), min(rows, columns), generator=GENERATOR))[0]


def pixelwise(matrix, x):
    """Multiply every pixel's channels by `matrix`, whatever the axes after them."""
    return torch.tensordot(matrix, x, dims=([1], [1])).movedim(0, 1)


def bridged(delta, given):
    return option("DeltaBridge", delta, bridge=given)


def resized(delta, scale, noise_match="same noise"):
    return option("DeltaResolution", delta, scale=scale, noise_match=noise_match)


def empty(channels=4, size=8, batch=2):
    return {"samples": torch.zeros(batch, channels, size, size)}


def sample(target, delta, sampler, channels=4, size=8, **how):
    return advanced_sampler(target, delta, sampler, latent_image=empty(channels, size), **how)["samples"]


@pytest.fixture(scope="module")
def gaussians():
    """Three denoisers, x-dependent in different ways: source, adapted, target."""
    return [normal(mean, spread) for mean, spread in zip(means(4), (1.0, 0.6, 1.3), strict=True)]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("target_kind", ["eps", "flow with shift"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_denoiser_under_every_parametrisation(gaussians, kind, target_kind, sampler):
    """Oracle 5, at noise levels that all kinds know."""
    source, adapted, target = gaussians
    target = denoiser(target, *KINDS[target_kind][:1], settings=KINDS[target_kind][1])
    how = {"sampler": sampler, "steps": 6, "start_at_step": 2, "end_at_step": 5, "return_with_leftover_noise": "enable"}
    results = []
    for model_type, settings in (KINDS[kind], KINDS[target_kind]):
        models = (denoiser(d, model_type, settings=settings) for d in (source, adapted))
        results.append(sample(target, pair(*models), **how))
    assert relative_error(*results) < 1e-3
    without = denoiser(source, *KINDS[target_kind][:1], settings=KINDS[target_kind][1])
    assert relative_error(sample(target, pair(without, without), **how), results[1]) > 0.01


def test_source_and_adapted_of_different_kinds(gaussians):
    """A v-prediction fine-tune of an eps model, as they exist for SDXL."""
    source, adapted, target = gaussians
    target = denoiser(target)
    expected = sample(target, pair(denoiser(source), denoiser(adapted)), "euler")
    found = sample(target, pair(denoiser(source), denoiser(adapted, ModelType.V_PREDICTION)), "euler")
    assert torch.equal(found, expected)
    found = sample(target, pair(denoiser(source), denoiser(adapted, ModelType.FLOW)), "euler")
    assert relative_error(found, expected) < 1e-3


def recording(seen, predict):
    def denoise(x, ratio):
        seen.append((x.clone(), ratio.flatten()[0].item()))
        return predict(x, ratio)

    return denoise


@pytest.mark.parametrize("kind", ["zero-terminal-SNR v", "flow"])
def test_noise_beyond_what_the_source_knows_is_clamped(gaussians, kind):
    source, adapted, target = gaussians
    seen = []
    models = denoiser(recording(seen, source)), denoiser(adapted)
    model_type, settings = KINDS[kind]
    sample(denoiser(target, model_type, settings=settings), pair(*models), "euler", steps=3)
    ratios = [ratio for _, ratio in seen]
    assert ratios[0] == pytest.approx(14.6146, abs=1e-3)
    assert ratios[0] > ratios[1] > ratios[2]
    first = seen[0][0]
    assert first.std().item() == pytest.approx(14.6, rel=0.15)


def test_two_formats_that_differ_by_scale_and_shift(gaussians):
    """Known shifts arrive, in the target's scale; strength keeps its meaning in raw latents."""
    base, moved, _ = means(4)
    source_format, target_format = latents(4, scale=0.18215), latents(4, scale=0.13025, shift=0.4)
    source, adapted = (denoiser(normal(m, 0.5), latent_format=source_format) for m in (base, moved))
    target = denoiser(normal(base * 0, 0.5), latent_format=target_format)
    same = [denoiser(normal(m * 0.13025 / 0.18215, 0.5), latent_format=target_format) for m in (base, moved)]
    for sampler in SAMPLERS:
        expected = sample(target, pair(*same), sampler)
        assert relative_error(sample(target, pair(source, adapted), sampler), expected) < 1e-3
        assert relative_error(ksampler(target, sampler, empty()), expected) > 0.05
    found = delta_ksampler(source, adapted, target, latent_image=empty(), sampler="euler")
    assert torch.equal(found, sample(target, pair(source, adapted), "euler"))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_detail_sees_the_state_as_the_scale_leaves_it(sampler):
    """Latents twice as large at twice the noise are the same picture, so any denoiser of them gives the same delta."""
    base, moved, goal = means(4)
    pair_of = [normal(base, 1.0), normal(moved, 0.6)]
    target = denoiser(normal(goal, 1.3))

    def twice(denoise):
        return lambda x, ratio: 2 * denoise(x / 2, ratio / 2)

    delta = pair(*(denoiser(twice(d), ModelType.FLOW, latents(4, scale=2.0)) for d in pair_of))
    how = {"start_at_step": 2, "steps": 6}
    expected = sample(target, pair(*(denoiser(d) for d in pair_of)), sampler, **how)
    assert relative_error(sample(target, resized(delta, 1.0, "same detail"), sampler, **how), expected) < 1e-3
    assert relative_error(sample(target, delta, sampler, **how), expected) > 1e-3


def rotated(matrix, denoise, shift=0.0):
    """Return `denoise` for latents that `matrix`, with orthonormal columns, takes to another space."""

    def in_there(x, ratio):
        return pixelwise(matrix, denoise(pixelwise(matrix.T, x - shift), ratio)) + shift

    return in_there


CROSSINGS = {
    "4 rotated": ((4, 8, 2), (4, 8, 2)),
    "4 to 16 channels": ((4, 8, 2), (16, 8, 2)),
    "4 to 16 channels and an axis of time": ((4, 8, 2), (16, 8, 3)),
    "16 with an axis of time to 16": ((16, 8, 3), (16, 8, 2)),
    "16 to 4 channels": ((16, 8, 2), (4, 8, 2)),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("crossing", CROSSINGS)
def test_a_rotated_latent_space(crossing, sampler):
    """Oracle 6: where one space is a rotation of the other, or a part of it, nothing is lost."""
    (source_channels, *source_rest), (target_channels, *target_rest) = CROSSINGS[crossing]
    few = min(source_channels, target_channels)
    base, moved, goal = means(few)
    pair_of = [normal(base, 1.0), normal(moved, 0.6)]
    turn = orthonormal(target_channels, source_channels)
    large_target = target_channels > source_channels
    turn = turn if turn.shape == (target_channels, source_channels) else turn.T
    shift = 0.7
    if large_target:
        # The plain pair sees the part of the target's latents that the source has.
        there, here = pair_of, [rotated(turn, d) for d in pair_of]
        target = rotated(turn, normal(goal, 1.3))
    else:
        there, here = [rotated(turn.T, d) for d in pair_of], pair_of
        target = normal(goal, 1.3)
    source_format = latents(source_channels, *source_rest[::-1], shift=-shift)
    target_format = latents(target_channels, *target_rest[::-1])

    def shifted(denoise):
        return lambda x, ratio: denoise(x - shift, ratio) + shift

    target = denoiser(target, latent_format=target_format)
    found_pair = pair(*(denoiser(shifted(d), latent_format=source_format) for d in there))
    expected_pair = pair(*(denoiser(d, latent_format=target_format) for d in here))
    way = bridge((source_channels, 8), (target_channels, 8), turn.T.contiguous(), turn)
    found = sample(target, bridged(found_pair, way), sampler, target_channels)
    expected = sample(target, expected_pair, sampler, target_channels)
    assert found.shape == expected.shape
    assert relative_error(found, expected) < 1e-3
    assert relative_error(sample(target, pair(*[denoiser(here[0], latent_format=target_format)] * 2), sampler,
                                 target_channels), expected) > 0.01  # fmt: skip


def test_space_traded_for_channels():
    """Flux.2: 128 channels at 1/16 of the picture, for 16 blocks of 2x2 pixels with 32; SD1.5 has 4 at 1/8."""
    base, moved, goal = means(4)
    turn = orthonormal(128, 16)
    pair_of = [normal(base, 1.0), normal(moved, 0.6)]

    def folded(denoise):
        def in_there(x, ratio):
            fine = F.pixel_shuffle(pixelwise(turn.T, x), 2)
            return pixelwise(turn, F.pixel_unshuffle(denoise(fine, ratio), 2))

        return in_there

    formats = latents(4), latents(128, downscale=16)
    target = denoiser(folded(normal(goal, 1.3)), ModelType.FLOW, latent_format=formats[1])
    plain = pair(*(denoiser(folded(d), ModelType.FLOW, latent_format=formats[1]) for d in pair_of))
    delta = pair(*(denoiser(d, ModelType.FLOW, latent_format=formats[0]) for d in pair_of))
    delta = bridged(delta, bridge((4, 8), (128, 16), turn.T.contiguous(), turn))
    for sampler in ("euler", "dpmpp_sde"):
        found, expected = (sample(target, each, sampler, 128, size=4) for each in (delta, plain))
        assert relative_error(found, expected) < 1e-3
    back = pair(*(denoiser(folded(d), latent_format=formats[1]) for d in pair_of))
    back = bridged(back, bridge((128, 16), (4, 8), turn, turn.T.contiguous()))
    target = denoiser(normal(goal, 1.3), latent_format=formats[0])
    plain = pair(*(denoiser(d, latent_format=formats[0]) for d in pair_of))
    for sampler in ("euler", "dpmpp_sde"):
        assert relative_error(sample(target, back, sampler), sample(target, plain, sampler)) < 1e-3


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_rotation_scale_shift_and_resize_composed(sampler, kind):
    """A pair of half the size, in rotated and shifted latents of another parametrisation."""
    base, moved, goal = means(4)
    small = [normal(base, 1.0), normal(moved, 0.6)]
    turn, shift = orthonormal(4, 4), 0.7

    target = denoiser(normal(goal, 1.3))
    known = {"steps": 5, "start_at_step": 1, "end_at_step": 4, "return_with_leftover_noise": "enable"}
    expected = sample(target, resized(pair(*map(denoiser, small)), 0.5, "same detail"), sampler, **known)
    there = [rotated(turn, d, shift) for d in small]
    model_type, settings = KINDS[kind]
    delta = pair(*(denoiser(d, model_type, latents(4, shift=-shift), settings) for d in there))
    delta = resized(bridged(delta, bridge((4, 8), (4, 8), turn, turn.T.contiguous())), 0.5, "same detail")
    found = sample(target, delta, sampler, **known)
    assert relative_error(found, expected) < 1e-3
    # Known shifts, with a scale as well.
    there = [normal(pixelwise(turn, m) * 1.4 + shift, 0.5 * 1.4) for m in (base, moved)]
    here = [normal(m, 0.5) for m in (base, moved)]
    delta = pair(*(denoiser(d, model_type, latents(4, scale=1.4, shift=-0.5), settings) for d in there))
    delta = resized(bridged(delta, bridge((4, 8), (4, 8), turn, turn.T.contiguous())), 0.5, "same noise")
    expected = sample(target, pair(*(denoiser(d) for d in here)), sampler)
    assert relative_error(sample(target, delta, sampler), expected) < 1e-3


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_every_sampler_crosses(gaussians, sampler):
    """From eps in one latent scale to flow in another: equal branches change nothing, a delta arrives finite."""
    source, adapted, target = gaussians
    source, adapted = (denoiser(d, latent_format=latents(4, scale=0.18215)) for d in (source, adapted))
    target = denoiser(target, ModelType.FLOW, latents(4, scale=0.13025))
    plain = ksampler(target, sampler, empty())
    assert torch.equal(delta_ksampler(source, source, target, sampler=sampler, latent_image=empty()), plain)
    found = delta_ksampler(source, adapted, target, sampler=sampler, latent_image=empty())
    assert torch.isfinite(found).all() and relative_error(found, plain) > 0.01
