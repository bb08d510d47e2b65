"""The Delta KSampler against the paper's formula, written out with nothing of the pack."""

from typing import ClassVar

import comfy.k_diffusion.sampling
import comfy.sample
import comfy.samplers
import comfy.supported_models
import pytest
import torch
from comfy.model_base import ModelType

from .gaussian import denoiser, normal
from .tiny import NEGATIVE, POSITIVE, RUN, SINGLE, delta_ksampler, ksampler, latent, model, relative_error


class SD21(comfy.supported_models.SD20):
    unet_extra_config: ClassVar = {}  # its heads are wider than a tiny network


def written_out(source, adapted, target, strength, sampler):
    """Return what `sampler` makes of D_target + strength * (D_adapted - D_source), each after CFG."""

    def denoised(role, x, sigma):
        prompts = torch.cat([NEGATIVE[0][0], POSITIVE[0][0]])
        both = role.model.apply_model(torch.cat([x, x]), torch.cat([sigma, sigma]), c_crossattn=prompts)
        uncond, cond = both.chunk(2)
        return uncond + RUN["cfg"] * (cond - uncond)

    def with_delta(x, sigma):
        return denoised(target, x, sigma) + strength * (denoised(adapted, x, sigma) - denoised(source, x, sigma))

    sampling = target.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, RUN["scheduler"], RUN["steps"])
    noise = comfy.sample.prepare_noise(latent()["samples"], RUN["seed"])
    x = sampling.noise_scaling(sigmas[0], noise, torch.zeros_like(noise), max_denoise=True)
    out = getattr(comfy.k_diffusion.sampling, f"sample_{sampler}")(with_delta, x, sigmas, disable=True)
    return target.model.process_latent_out(out)


@pytest.mark.skipif(not SINGLE, reason="the formula is written out in float32")
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
@pytest.mark.parametrize("strength", [1.0, -0.7])
def test_the_authors_inputs_give_the_authors_result(sampler, strength):
    """A pair of SD1.5 on SD2.1 with v."""
    models = model(1), model(2), model(3, ModelType.V_PREDICTION, SD21)
    expected = written_out(*models, strength, sampler)
    assert relative_error(delta_ksampler(*models, strength, sampler), expected) < 1e-6
    assert relative_error(ksampler(models[2], sampler), expected) > 0.01


@pytest.mark.parametrize("target_kind", [ModelType.EPS, ModelType.FLOW])
@pytest.mark.parametrize("goal", [-2.0, 0.5])
def test_a_known_shift_arrives_whatever_the_target_knows(goal, target_kind):
    """Bases that learnt other images, here with other means, disagree at every call; the formula does not mind."""
    shift = torch.tensor([0.3, -0.2, 0.5, 0.1])
    source, adapted = (denoiser(normal(0.4 + k * shift, 0.7)) for k in (0, 1))
    target = denoiser(normal(torch.full((4,), goal), 0.02), target_kind)
    run = {"latent_image": latent(1, 8), "steps": 20, "cfg": 1.0}
    delta = delta_ksampler(source, adapted, target, **run) - ksampler(target, **run)
    plain = delta_ksampler(source, adapted, source, **run) - ksampler(source, **run)
    arrived = delta.mean((0, 2, 3))
    assert torch.cosine_similarity(arrived, shift, 0) > 0.9999
    assert 0 < (arrived @ shift) < (plain.mean((0, 2, 3)) @ shift)
