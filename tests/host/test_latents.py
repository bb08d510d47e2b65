"""Latents of every kind a KSampler takes: images to start from, masks, batches, video, packed."""

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.nested_tensor
import comfy.supported_models_base
import comfy.utils
import latent_preview
import pytest
import torch
from comfy.cli_args import LatentPreviewMethod
from comfy.model_patcher import ModelPatcher

from harness.nodes import option, with_lora

from .gaussian import OneVAE, denoiser, latents
from .tiny import (
    CPU,
    advanced_sampler,
    bridge,
    delta_ksampler,
    image_latent,
    ksampler,
    latent,
    model,
    pair,
    randomise,
    relative_error,
)

SAMPLERS = ["euler", "dpmpp_2m_sde", "ddim", "uni_pc"]
MASK = torch.zeros(1, 1, 64, 64)
MASK[..., 20:] = 1


def soft(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(6))


LATENTS = {
    "an image": lambda: image_latent(1),
    "a masked image": lambda: image_latent(1, noise_mask=MASK),
    "a soft mask of another size": lambda: image_latent(1, noise_mask=soft(1, 1, 24, 40)),
    "a batch": lambda: image_latent(1, batch=3),
    "a batch with a mask each": lambda: image_latent(1, batch=2, noise_mask=soft(2, 1, 64, 64)),
    "chosen members of a batch": lambda: image_latent(1, batch=2, batch_index=[5, 2]),
    "an odd size": lambda: {"samples": torch.zeros(1, 4, 9, 13)},
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", LATENTS)
def test_latents_act_as_in_the_ksampler(base, adapted, kind, sampler):
    how = {"sampler": sampler, "denoise": 0.6, "steps": 5}
    expected = ksampler(adapted, latent_image=LATENTS[kind](), **how)
    found = delta_ksampler(base, adapted, base, latent_image=LATENTS[kind](), **how)
    plain = ksampler(base, latent_image=LATENTS[kind](), **how)
    assert relative_error(found, expected) < 1e-4
    assert relative_error(plain, expected) > 1e-3
    unchanged = delta_ksampler(adapted, adapted, base, latent_image=LATENTS[kind](), **how)
    assert torch.equal(unchanged, plain)


def test_what_the_mask_keeps_is_kept(base, adapted):
    image = image_latent(1, noise_mask=MASK)
    found = delta_ksampler(base, adapted, model(3), 2.0, latent_image=image)
    torch.testing.assert_close(found[..., :2], image["samples"][..., :2])
    assert not torch.allclose(found[..., 3:], image["samples"][..., 3:], atol=0.1)


def test_the_latent_given_is_not_changed_and_its_extras_survive(base, adapted):
    given = image_latent(1, batch=2, batch_index=[3, 4], noise_mask=MASK)
    before = given["samples"].clone()
    delta = pair(base, adapted)
    out = advanced_sampler(base, delta, latent_image=given)
    assert torch.equal(given["samples"], before)
    assert out.keys() == given.keys()
    assert out["batch_index"] == [3, 4]
    assert out["noise_mask"] is MASK


def test_an_inpainting_checkpoint_sees_image_and_mask_in_its_branch():
    """Nine input channels: the mask and the masked image are conditioning, branch by branch."""
    base = model(1, in_channels=9)
    adapted = with_lora(base, 5)
    image = image_latent(1, noise_mask=MASK)
    expected = ksampler(adapted, latent_image=image)
    assert relative_error(delta_ksampler(base, adapted, base, latent_image=image), expected) < 1e-4
    assert relative_error(ksampler(adapted, latent_image=image_latent(1)), expected) > 1e-3


@pytest.mark.parametrize("method", [LatentPreviewMethod.Latent2RGB, LatentPreviewMethod.NoPreviews])
def test_previews_and_progress_are_the_ksamplers(base, adapted, monkeypatch, method):
    monkeypatch.setattr(latent_preview.args, "preview_method", method)
    reports = []
    update = comfy.utils.ProgressBar.update_absolute

    def record(self, value, total=None, preview=None):
        reports.append((value, total, None if preview is None else preview[1].size))
        return update(self, value, total, preview)

    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", record)
    ksampler(adapted, latent_image=latent(2))
    expected, reports[:] = list(reports), []
    delta_ksampler(base, adapted, model(3), latent_image=latent(2))
    assert reports == expected
    assert len(reports) == 4
    assert all((size is not None) == (method is LatentPreviewMethod.Latent2RGB) for _, _, size in reports)


class Volumes(torch.nn.Module):
    """A denoiser of video: one convolution over time and space, and the prompt's mean added."""

    def __init__(self, channels=4, device=None, operations=None, dtype=torch.float32, **kwargs):
        super().__init__()
        self.dtype = dtype
        self.mix = torch.nn.Conv3d(channels, channels, 3, padding=1, dtype=dtype)

    def forward(self, x, timestep, context=None, **kwargs):
        return self.mix(x) + context.mean(dim=(1, 2)).view(-1, 1, 1, 1, 1)


class Pictures(torch.nn.Module):
    """A denoiser of two latents packed into one, pictures and something longer, as audio-video models do."""

    def __init__(self, channels=4, device=None, operations=None, dtype=torch.float32, **kwargs):
        super().__init__()
        self.dtype = dtype
        self.mix = torch.nn.Conv2d(channels, channels, 3, padding=1, dtype=dtype)
        self.mix_long = torch.nn.Conv2d(2, 2, 3, padding=1, dtype=dtype)

    def forward(self, x, timestep, context=None, **kwargs):
        picture, sound = x
        return [self.mix(picture) + sound.mean(), self.mix_long(sound) + picture.mean()]


class Packed(comfy.model_base.BaseModel):
    def extra_conds(self, **kwargs):
        out = super().extra_conds(**kwargs)
        out["latent_shapes"] = comfy.conds.CONDConstant(kwargs["latent_shapes"])
        return out


def unusual_model(seed, net, base_class=comfy.model_base.BaseModel, latent_dimensions=2):
    class Format(OneVAE):
        pass

    Format.latent_dimensions = latent_dimensions

    class Family(comfy.supported_models_base.BASE):
        latent_format = Format

    with torch.inference_mode(False):
        made = base_class(Family({"dtype": torch.float32}), device=CPU, unet_model=net)
        randomise(made.diffusion_model, seed)
    return ModelPatcher(made, CPU, CPU)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_video(sampler):
    source, adapted, target = (unusual_model(seed, Volumes, latent_dimensions=3) for seed in (1, 2, 3))
    video = {"samples": torch.zeros(1, 4, 5, 8, 8)}
    expected = ksampler(adapted, sampler, video)
    assert expected.shape == (1, 4, 5, 8, 8)
    assert relative_error(delta_ksampler(source, adapted, source, sampler=sampler, latent_image=video), expected) < 1e-4
    plain = ksampler(target, sampler, video)
    assert torch.equal(delta_ksampler(source, source, target, sampler=sampler, latent_image=video), plain)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_packed_latents(sampler, masked):
    source, adapted, target = (unusual_model(seed, Pictures, Packed) for seed in (1, 2, 3))
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    sound = torch.randn(1, 2, 3, 20, generator=torch.Generator().manual_seed(2))
    packed = {"samples": comfy.nested_tensor.NestedTensor([picture, sound])}
    if masked:
        packed["noise_mask"] = comfy.nested_tensor.NestedTensor([soft(1, 1, 8, 8), torch.ones(1, 1, 3, 20)])
    how = {"sampler": sampler, "latent_image": packed, "denoise": 0.7}
    expected = ksampler(adapted, **how).unbind()
    found = delta_ksampler(source, adapted, source, **how).unbind()
    for one, other in zip(found, expected, strict=True):
        assert relative_error(one, other) < 1e-4
    plain = ksampler(target, **how).unbind()
    unchanged = delta_ksampler(source, source, target, **how).unbind()
    assert all(torch.equal(one, other) for one, other in zip(unchanged, plain, strict=True))
    assert relative_error(plain[1], expected[1]) > 0.01


def refusal(act, *args, **kwargs) -> str:
    with pytest.raises(ValueError) as caught:
        act(*args, **kwargs)
    assert type(caught.value).__name__ == "DeltaError"
    return str(caught.value)


OPTIONS = ("Delta Bridge", "Delta Resolution", "one frame")


def sound_and_its_errors():
    kind, other = comfy.latent_formats.StableAudio1, comfy.latent_formats.ACEAudio
    sound = {"latent_image": {"samples": torch.zeros(1, 64, 256)}}
    one, coarse = (denoiser(lambda x, ratio: x * 0, latent_format=each) for each in (kind, other))
    yield "Delta Resolution", one, option("DeltaResolution", pair(one, one), scale=0.5), sound
    way = bridge((64, 8), (64, 8), torch.eye(64), torch.eye(64))
    yield "Delta Bridge", one, option("DeltaBridge", pair(one, one), bridge=way), sound
    yield None, one, pair(coarse, coarse), sound
    frames, picture = (
        denoiser(lambda x, ratio: x * 0, latent_format=latents(4, axes, scale=scale))
        for axes, scale in ((3, 1), (3, 2))
    )
    video = {"latent_image": {"samples": torch.zeros(1, 4, 5, 8, 8)}}
    yield "one frame", frames, pair(picture, picture), video


def test_errors_for_what_is_no_picture_name_what_was_used_alone():
    for used, target, delta, how in sound_and_its_errors():
        message = refusal(advanced_sampler, target, delta, **how)
        assert [name for name in OPTIONS if name in message] == [used] * (used is not None), message


@pytest.mark.parametrize("band", ["low", "high"])
def test_a_band_of_a_sound_is_one_of_its_time(band):
    """What is low and what is high add up, and channels are no frequencies."""
    kind = comfy.latent_formats.StableAudio1
    wave = torch.sin(torch.arange(256) * 2 * torch.pi / 256)
    source, target = (denoiser(lambda x, ratio: x * 0, latent_format=kind) for _ in range(2))
    channels = torch.arange(64).remainder(2).mul(2).sub(1.0)[:, None]
    adapted = denoiser(lambda x, ratio: x * 0 + channels * wave, latent_format=kind)
    delta = option("DeltaLimits", pair(source, adapted), band=band)
    made = advanced_sampler(target, delta, latent_image={"samples": torch.zeros(1, 64, 256)}, steps=2)["samples"]
    kept = made.norm() / (channels * wave).norm()
    assert kept > 0.99 if band == "low" else kept < 0.01
