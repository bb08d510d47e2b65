"""Source and adapted at a resolution of their own: what it costs, and that everything keeps its place."""

import comfy.latent_formats
import comfy.supported_models
import pytest
import torch
from comfy.model_base import ModelType

from harness.nodes import node, option, shown, with_lora

from .gaussian import denoiser
from .tiny import NEGATIVE, POSITIVE, advanced_sampler, image_latent, latent, model, pair, relative_error


def resized(delta, scale, noise_match="same noise"):
    return option("DeltaResolution", delta, scale=scale, noise_match=noise_match)


def watched(patcher, seen):
    """Return a clone of `patcher` that notes the input of each of its calls in `seen`."""
    return shown(patcher, lambda args: seen.append((args["input"].clone(), args["c"].get("c_concat"))))


def test_scale_1_changes_nothing(base, adapted):
    delta = pair(base, adapted)
    assert resized(delta, 1.0) is delta
    half = resized(delta, 0.5, "same detail")
    assert resized(half, 1.0) is half
    target = model(3)
    expected = advanced_sampler(target, delta)["samples"]
    assert torch.equal(advanced_sampler(target, resized(delta, 1.0, "same detail"))["samples"], expected)


def test_scales_multiply(base, adapted):
    (delta,) = resized(resized(pair(base, adapted), 0.5), 0.5, "same detail")
    assert (delta.view.scale, delta.view.same_detail) == (0.25, True)


@pytest.mark.parametrize(
    ("scale", "size"), [(0.5, (6, 4)), (0.75, (9, 6)), (0.25, (3, 2)), (0.55, (7, 4)), (1.0, (12, 8))]
)
def test_the_pair_runs_at_its_own_size(base, adapted, scale, size):
    seen, seen_by_target = [], []
    delta = resized(pair(watched(base, seen), watched(adapted, seen)), scale)
    given = {"samples": torch.zeros(1, 4, 12, 8)}
    out = advanced_sampler(watched(model(3), seen_by_target), delta, latent_image=given)["samples"]
    assert out.shape == (1, 4, 12, 8)
    assert {tuple(x.shape[2:]) for x, _ in seen} == {size}
    assert {tuple(x.shape[2:]) for x, _ in seen_by_target} == {(12, 8)}


@pytest.mark.parametrize("noise_match", ["same noise", "same detail"])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde", "euler_cfg_pp"])
def test_equal_branches_change_nothing_at_any_size(base, sampler, noise_match):
    target = model(3, ModelType.V_PREDICTION)
    delta = resized(pair(base, base), 0.5, noise_match)
    expected = advanced_sampler(target, pair(base, base), sampler, latent_image=latent(2))["samples"]
    assert torch.equal(advanced_sampler(target, delta, sampler, latent_image=latent(2))["samples"], expected)


@pytest.mark.parametrize(("noise_match", "share"), [("same noise", 1.0), ("same detail", 0.5)])
def test_the_noise_of_the_smaller_picture(noise_match, share):
    """Unit noise stays unit noise; the same detail is seen at half the noise in a picture of half the size."""
    seen = []

    def note(x, ratio):
        seen.append((x.std().item(), ratio.flatten()[0].item()))
        return x * 0

    delta = resized(pair(denoiser(note), denoiser(lambda x, ratio: x * 0)), 0.5, noise_match)
    advanced_sampler(denoiser(lambda x, ratio: x * 0), delta, latent_image=latent(4, 64), steps=3)
    spread, ratio = seen[0]
    assert ratio == pytest.approx(14.6146 * share, rel=1e-3)
    assert spread == pytest.approx(ratio, rel=0.03)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_areas_and_masks_of_the_conditioning_keep_their_place(base, scale):
    """A prompt for the lower right quarter changes that quarter, at either resolution."""
    seen = []
    target = denoiser(lambda x, ratio: x * 0, latent_format=comfy.latent_formats.SD15)
    quarter = node("ConditioningSetArea")().append(NEGATIVE, 64, 64, 64, 64, 1.0)[0]
    source = watched(base, seen)
    delta = node("DeltaPair").execute(
        source_model=source, source_positive=POSITIVE, source_negative=NEGATIVE,
        adapted_model=source, adapted_positive=[*POSITIVE, *quarter], adapted_negative=NEGATIVE, cfg=1.0, strength=1.0,
    ).result[0]  # fmt: skip
    out = advanced_sampler(target, resized(delta, scale), latent_image=latent(1, 16), steps=2)["samples"]
    sizes = {tuple(x.shape[2:]) for x, _ in seen}
    whole, part = int(16 * scale), int(8 * scale)
    assert sizes == {(whole, whole), (part, part)}
    changed = (out - advanced_sampler(target, pair(base, base), latent_image=latent(1, 16), steps=2)["samples"]).abs()
    inside, outside = changed[..., 8:, 8:].mean(), changed[..., :7, :7].mean()
    assert inside > 1e-3 and outside < 0.05 * inside

    mask = torch.zeros(1, 128, 128)
    mask[:, 64:, 64:] = 1
    masked = node("ConditioningSetMask")().append(POSITIVE, mask, "default", 1.0)[0]
    other = node("ConditioningSetMask")().append(NEGATIVE, mask, "default", 1.0)[0]
    delta = node("DeltaPair").execute(
        source_model=base, source_positive=[*POSITIVE, *masked], source_negative=NEGATIVE,
        adapted_model=base, adapted_positive=[*POSITIVE, *other], adapted_negative=NEGATIVE, cfg=1.0, strength=1.0,
    ).result[0]  # fmt: skip
    out = advanced_sampler(target, resized(delta, scale), latent_image=latent(1, 16), steps=2)["samples"]
    changed = (out - advanced_sampler(target, pair(base, base), latent_image=latent(1, 16), steps=2)["samples"]).abs()
    assert changed[..., 9:, 9:].mean() > 20 * changed[..., :7, :7].mean()


class AnotherScale(comfy.latent_formats.SD15):
    def __init__(self):
        super().__init__(scale_factor=0.13025)


class OnAnotherScale(comfy.supported_models.SD15):
    latent_format = AnotherScale


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_an_inpainting_source_sees_the_targets_picture_and_mask(scale):
    """In its own latent scale and at its own size."""
    seen = []
    base = model(1, in_channels=9)
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., 64:, :] = 1
    image = image_latent(1, size=16, noise_mask=mask)
    delta = resized(pair(watched(base, seen), with_lora(base, 5)), scale)
    advanced_sampler(model(3, family=OnAnotherScale), delta, latent_image=image, steps=2)
    concat = seen[0][1]
    size = int(16 * scale)
    assert concat.shape == (2, 5, size, size)
    assert torch.equal(concat[0, 0], torch.cat([torch.zeros(size // 2, size), torch.ones(size // 2, size)]))
    raw = torch.nn.functional.avg_pool2d(image["samples"], 16 // size)
    assert relative_error(concat[0, 1:] / 0.18215, raw[0]) < 1e-5


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_mask_keeps_what_it_covers(base, adapted, scale):
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., 64:, :] = 1
    image = image_latent(1, size=16, noise_mask=mask)
    found = advanced_sampler(
        model(3, family=OnAnotherScale), resized(pair(base, adapted, 2.0), scale), latent_image=image
    )
    torch.testing.assert_close(found["samples"][..., :8, :], image["samples"][..., :8, :], rtol=1e-4, atol=1e-4)
