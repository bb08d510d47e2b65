"""Runs that are not one falling schedule over one batch of one size: masks of a step, members of a batch, unsampling,
stages, samplers that call at other sizes, packs that predict twice."""

from itertools import pairwise
from typing import ClassVar

import comfy.latent_formats as formats
import comfy.samplers
import pytest
import torch
from comfy.k_diffusion.sampling import to_d
from comfy.model_base import ModelType

from harness.nodes import custom_sampler, option, run_node, shown

from .gaussian import denoiser, latents, normal
from .tiny import (
    advanced_sampler,
    autoguidance,
    bridge,
    counted,
    delta_guider,
    delta_model,
    host_advanced,
    image_latent,
    ksampler,
    latent,
    model,
    pair,
    relative_error,
)

SHIFT = torch.tensor([0.3, 0.1, -0.2, 0.4])


def textured(x, ratio, scale):
    """A prediction that depends on the state, not on its mean alone."""
    return x / (1 + ratio**2) + scale * torch.tanh(x / (1 + ratio))


def lossy_pair():
    """A pair over a bridge that drops one channel."""
    part = torch.eye(4) * (torch.arange(4) > 0)
    source, adapted = (denoiser(lambda x, n, k=k: textured(x, n, k), latent_format=latents(4)) for k in (0.1, 0.5))
    return option("DeltaBridge", pair(source, adapted, cfg=1.0), bridge=bridge((4, 8), (4, 8), part, part))


@pytest.fixture(scope="module")
def goal():
    return denoiser(lambda x, n: textured(x, n, -0.3), latent_format=latents(4))


class TestMasksOfAStep:
    """Differential Diffusion makes each step's mask of the run's."""

    IMAGE = image_latent(3)
    MASK = torch.full((1, 1, 64, 64), 0.6)

    def runs(self, target):
        """Return a run with a mask of 0.6 everywhere, and the runs that start at each step."""
        masked = run_node("DifferentialDiffusion", model=target)
        started = [host_advanced(target, latent_image=self.IMAGE, steps=16, start_at_step=8 + k) for k in range(1, 7)]
        found = ksampler(masked, latent_image={**self.IMAGE, "noise_mask": self.MASK}, steps=8, denoise=0.5)
        return found, [each["samples"] for each in started]

    def test_a_mask_that_opens_late_is_a_run_that_starts_late(self, goal):
        plain, started = self.runs(goal)
        (first,) = [k for k, each in enumerate(started) if relative_error(plain, each) < 1e-5]
        found, started = self.runs(delta_model(goal, lossy_pair()))
        assert relative_error(found, started[first]) < 1e-5
        assert relative_error(found, plain) > 0.05

    def test_a_delta_inside_of_a_branch_too(self, goal):
        """The branch that carries it sees no mask itself."""
        base = denoiser(lambda x, n: textured(x, n, 0.2), latent_format=latents(4))
        outer = pair(base, delta_model(base, lossy_pair()), cfg=1.0)
        plain, started = self.runs(goal)
        (first,) = [k for k, each in enumerate(started) if relative_error(plain, each) < 1e-5]
        found, started = self.runs(delta_model(goal, outer))
        assert relative_error(found, started[first]) < 1e-5


CROSSINGS = {
    "SD1.5 to SDXL": (formats.SD15, formats.SDXL, ModelType.EPS),
    "Flux to SDXL": (formats.Flux, formats.SDXL, ModelType.EPS),
    "SD1.5 to a flow of 16 channels": (formats.SD15, formats.Flux, ModelType.FLOW),
}


class TestABatch:
    @pytest.mark.parametrize("crossing", CROSSINGS)
    @pytest.mark.parametrize("noised", [True, False])
    def test_an_image_made_alone_is_that_of_the_batch(self, crossing, noised):
        source_format, target_format, kind = CROSSINGS[crossing]
        source, adapted = (denoiser(lambda x, n, k=k: textured(x, n, k), latent_format=source_format) for k in (0, 0.5))
        target = denoiser(lambda x, n: textured(x, n, -0.3), kind, target_format)
        delta, channels = pair(source, adapted, cfg=1.0), target_format.latent_channels
        batch = torch.randn(3, channels, 8, 8, generator=torch.Generator().manual_seed(4))
        run = {"add_noise": "enable" if noised else "disable", "start_at_step": 0 if noised else 1}
        whole = advanced_sampler(target, delta, latent_image={"samples": batch}, **run)["samples"]
        alone = {"samples": batch[1:2], "batch_index": [1]}
        found = advanced_sampler(target, delta, latent_image=alone, **run)["samples"]
        assert relative_error(found, whole[1:2]) < 1e-6
        assert relative_error(whole[:1], whole[1:2]) > 0.1


class TestNoiseThatRises:
    def unsampled(self, guider, steps=16):
        sigmas = run_node("BasicScheduler", model=guider.model_patcher, scheduler="karras", steps=steps)
        return custom_sampler(guider, run_node("FlipSigmas", sigmas=sigmas), image_latent(5))["samples"]

    def restarted(self, guider):
        sigmas = torch.tensor([14.0, 6.0, 2.5, 1.0, 0.5, 3.0, 1.2, 0.6, 0.2, 4.0, 1.5, 0.5, 0.1, 0.0])
        return custom_sampler(guider, sigmas, latent())["samples"]

    @pytest.mark.parametrize("run", ["unsampled", "restarted"])
    def test_the_fast_preset_follows_it(self, run):
        calls = {}
        source, adapted = (denoiser(normal(k * SHIFT, 0.5), latent_format=formats.SD15) for k in (0, 1))
        target = denoiser(normal(-SHIFT, 0.5), latent_format=formats.SD15)
        delta = pair(counted(source, calls, "source"), adapted, cfg=1.0)
        sample = getattr(self, run)
        plain, full = sample(delta_guider(target, ())), sample(delta_guider(target, delta))
        calls.clear()
        fast = sample(delta_guider(target, option("DeltaFast", delta)))
        assert 4 <= calls["source"] <= 12
        assert (fast - full).norm() < 0.3 * (full - plain).norm()

    def test_every_second_step_counts_both_ways(self, base, adapted):
        calls = {}
        delta = option("DeltaReuse", pair(counted(base, calls, "source"), adapted, cfg=1.0), every=2)
        self.unsampled(delta_guider(model(3), delta))
        assert calls["source"] == 8


class TestAStageWithoutSteps:
    OPTIONS: ClassVar = {
        "plain": lambda delta: delta,
        "fast": lambda delta: option("DeltaFast", delta),
        "schedule": lambda delta: option("DeltaSchedule", delta, end_percent=0.5),
        "reuse": lambda delta: option("DeltaReuse", delta, every=2, threshold=0.1),
        "resolution": lambda delta: option("DeltaResolution", delta, scale=0.5),
    }

    @pytest.mark.parametrize("name", OPTIONS)
    @pytest.mark.parametrize("step", [0, 4])
    def test_the_latent_passes_through(self, base, adapted, name, step):
        guider = delta_guider(model(3), self.OPTIONS[name](pair(base, adapted)))
        sigmas = run_node("BasicScheduler", model=guider.model_patcher, scheduler="normal", steps=4)
        stages = [sigmas[: step + 1], sigmas[step:]]
        (empty,) = [stage for stage in stages if len(stage) == 1]
        plain = delta_guider(model(3), ())
        found, expected = (custom_sampler(each, empty, image_latent(2))["samples"] for each in (guider, plain))
        assert torch.equal(found, expected)


def other_sizes(model, x, sigmas, extra_args=None, callback=None, disable=None):
    """Euler with a call at half the size and one at 1.25 times the size in each step, as Euler SMEA Dy has them."""
    for now, then in pairwise(sigmas):
        sigma = now.expand(len(x))
        d = to_d(x, now, model(x, sigma, **extra_args))
        if then > 0:
            corner = x[..., ::2, ::2]
            d = d.clone()
            d[..., ::2, ::2] = to_d(corner, now, model(corner, sigma, **extra_args))
            large = torch.nn.functional.interpolate(x, scale_factor=1.25, mode="nearest")
            finer = to_d(large, now, model(large, sigma, **extra_args))
            d = (d + torch.nn.functional.interpolate(finer, x.shape[-2:], mode="nearest")) / 2
        x = x + d * (then - now)
    return x


SIZED = {
    "mask": lambda: option("DeltaMask", gaussian_pair(), mask=torch.ones(1, 16, 16)),
    "resolution": lambda: option("DeltaResolution", gaussian_pair(), scale=0.5),
    "reuse": lambda: option("DeltaReuse", gaussian_pair(), every=2),
    "fast": lambda: option("DeltaFast", gaussian_pair()),
    "threshold": lambda: option("DeltaReuse", gaussian_pair(), threshold=0.2, extrapolate=True),
    "limits": lambda: option("DeltaLimits", gaussian_pair(), band="low", norm_limit=2.0),
    "a bridge": lambda: gaussian_pair(formats.SDXL),
    "a lossy bridge": lambda: lossy_pair(),
    "autoguidance": lambda: autoguidance(denoiser(normal(SHIFT, 0.5), latent_format=formats.SD15)),
}


def gaussian_pair(latent_format=formats.SD15):
    return pair(*(denoiser(normal(k * SHIFT, 0.5), latent_format=latent_format) for k in (0, 1)), cfg=1.0)


class TestCallsAtOtherSizes:
    def sample(self, target, delta):
        guider = delta_guider(target, delta)
        sigmas = run_node("BasicScheduler", model=target, scheduler="normal", steps=6)
        noise = run_node("RandomNoise", noise_seed=3)
        sampler = comfy.samplers.KSAMPLER(other_sizes)
        parts = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas}
        return run_node("SamplerCustomAdvanced", **parts, latent_image=latent(1, 16))["samples"]

    @pytest.mark.parametrize("name", SIZED)
    def test_a_delta_acts_at_the_size_of_the_call(self, name, goal):
        lossy = name == "a lossy bridge"
        target = goal if lossy else denoiser(normal(-SHIFT, 0.5), latent_format=formats.SD15)
        found, plain = self.sample(target, SIZED[name]()), self.sample(target, ())
        assert torch.isfinite(found).all() and relative_error(found, plain) > 0.005

    @pytest.mark.parametrize("name", ["mask", "resolution", "limits"])
    def test_a_shift_arrives_as_without_the_option(self, name):
        """A mask of ones, flat areas at half the size, low frequencies: nothing of a flat shift is lost."""
        target = denoiser(normal(-SHIFT, 0.5), latent_format=formats.SD15)
        found, expected = (self.sample(target, each) for each in (SIZED[name](), gaussian_pair()))
        assert relative_error(found, expected) < 1e-4


class TestSeveralPredictions:
    """LanPaint puts a method into the host's guider that predicts with two scales of guidance."""

    def twice(self, monkeypatch, other):
        ours = comfy.samplers.CFGGuider.predict_noise

        def predict_noise(self, *args, **kwargs):
            return ours(self, *args, **kwargs), other(self, *args, **kwargs)

        monkeypatch.setattr(comfy.samplers.CFGGuider, "predict_noise", predict_noise)

    def sample(self, target, delta, of_call):
        def euler(model, x, sigmas, extra_args=None, callback=None, disable=None):
            for now, then in pairwise(sigmas):
                x = x + to_d(x, now, of_call(model.inner_model(x, now.expand(len(x)), **extra))) * (then - now)
            return x

        extra = {"model_options": {}, "seed": 0}

        def wrapped(model, x, sigmas, extra_args=None, **kwargs):
            extra.update({key: extra_args[key] for key in ("model_options", "seed")})
            return euler(model, x, sigmas)

        guider = delta_guider(target, delta)
        sigmas = run_node("BasicScheduler", model=target, scheduler="normal", steps=4)
        parts = {"noise": run_node("RandomNoise", noise_seed=3), "guider": guider}
        parts |= {"sampler": comfy.samplers.KSAMPLER(wrapped), "sigmas": sigmas, "latent_image": latent()}
        return run_node("SamplerCustomAdvanced", **parts)["samples"]

    @pytest.mark.parametrize("strength", [0.7, 0.0])
    def test_the_delta_is_in_both(self, base, adapted, monkeypatch, strength):
        target, delta = model(3), pair(base, adapted, strength)
        expected = self.sample(target, delta, lambda found: found)
        ours = comfy.samplers.CFGGuider.predict_noise
        self.twice(monkeypatch, lambda self, *args, **kwargs: ours(self, *args, **kwargs) + 1)
        for number in (0, 1):
            found = self.sample(target, delta, lambda found, number=number: found[number] - number)
            assert relative_error(found, expected) < 1e-5

    def test_what_is_no_prediction_is_named(self, base, adapted, monkeypatch):
        self.twice(monkeypatch, lambda *args, **kwargs: "words")
        with pytest.raises(ValueError, match=r"The target model's predict_noise returned Tensor, str\. A tensor was"):
            self.sample(model(3), pair(base, adapted), lambda found: found[0])


def test_packs_that_look_at_calls_still_see_each_branch(base, adapted):
    """A guider of the pack's own is no other way to the model."""
    calls = []
    ksampler(delta_model(model(3), pair(shown(base, lambda args: calls.append(1)), adapted)), steps=2)
    assert calls
