"""Promises between a run and the host: who shares a call, who sees which prediction, what is loaded when."""

import comfy.hooks
import comfy.model_management
import comfy.model_patcher
import pytest
import torch
from comfy.latent_formats import SD3
from comfy.patcher_extension import CallbacksMP, WrappersMP

from harness.nodes import node, of_the_pack, option

from .gaussian import denoiser
from .test_branches import after_guidance, control_net
from .test_bridges import vae
from .test_other_packs import other_control
from .tiny import (
    NEGATIVE,
    POSITIVE,
    ROUNDING,
    advanced_sampler,
    bridge,
    delta_guider,
    delta_ksampler,
    ksampler,
    latent,
    model,
    pair,
    prompt,
    relative_error,
    seen,
)


def on_the_model(put):
    def wire(base):
        clone = base.clone()
        put(clone)
        return {"model": clone}

    return wire


def on_the_prompt(**options):
    return lambda base: {"positive": [[text, {**given, **options}] for text, given in prompt(55)]}


def hooked():
    group = comfy.hooks.HookGroup()
    group.add(comfy.hooks.TransformerOptionsHook({}))
    return group


def nothing(*args):
    pass


INJECTION = comfy.model_patcher.PatcherInjection(inject=nothing, eject=nothing)
# Whatever can look at the rows of a call, by the way that it comes.
LOOKERS = {
    "a patch": on_the_model(lambda clone: clone.set_model_attn1_patch(lambda q, k, v, extra: (q, k, v))),
    "a replacement": on_the_model(lambda clone: clone.set_model_attn2_replace(nothing, "middle", 9)),
    "a model wrapper": on_the_model(
        lambda c: c.set_model_unet_function_wrapper(lambda f, a: f(a["input"], a["timestep"], **a["c"]))
    ),
    "guidance": on_the_model(
        lambda clone: clone.set_model_sampler_cfg_function(lambda args: args["uncond"] + args["cond"])
    ),
    "a function before guidance": on_the_model(
        lambda clone: clone.set_model_sampler_pre_cfg_function(lambda args: args["conds_out"])
    ),
    "a function after guidance": on_the_model(
        lambda clone: clone.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    ),
    "a wrapper": on_the_model(
        lambda clone: clone.add_wrapper(WrappersMP.APPLY_MODEL, lambda run, *a, **k: run(*a, **k))
    ),
    "a callback": on_the_model(lambda clone: clone.add_callback(CallbacksMP.ON_PREPARE_STATE, nothing)),
    "an object": on_the_model(lambda clone: clone.add_object_patch("latent_format", clone.model.latent_format)),
    "an injection": on_the_model(lambda clone: clone.set_injections("some", [INJECTION])),
    "hooks": on_the_prompt(hooks=hooked()),
    "a control of another pack": lambda base: {"positive": other_control()[0]},
}


def rows_of_calls(base, wired):
    calls, given = [], {"model": base, "positive": prompt(55), **wired}
    target, one = model(3), given["model"]
    with seen(base, lambda x: calls.append(len(x))):
        delta_ksampler(one, one, target, adapted_positive=given["positive"], steps=2)
    return calls


def test_a_bare_model_with_two_prompts_shares_its_calls(base):
    assert rows_of_calls(base, {}) == [4, 4]


def test_what_shares_a_call_predicts_the_same_as_apart(base, monkeypatch):
    batching = of_the_pack("sampling.host.batching")
    compared = []

    def both(request, with_uncond):
        together = batching.predict(request, with_uncond)
        for predictor, found in together.items():
            for one, other in zip(found, predictor.predict(request.x, request.sigma, with_uncond), strict=True):
                assert relative_error(one, other) < ROUNDING
            compared.append(predictor)
        return together

    monkeypatch.setattr(of_the_pack("sampling.host.run"), "predict", both)
    delta_ksampler(base, base, model(3), adapted_positive=prompt(55), steps=1)
    assert len(compared) == 2


@pytest.mark.parametrize("looker", LOOKERS)
def test_where_anything_can_tell_the_two_run_apart(base, looker):
    assert max(rows_of_calls(base, LOOKERS[looker](base))) == 2


def test_models_whose_rows_may_know_each_other_run_apart(base):
    """Some networks of the host read which rows are negative."""

    class Other(type(base.model.diffusion_model)):
        pass

    other = model(1)
    other.model.diffusion_model.__class__ = Other
    assert rows_of_calls(other, {}) == [2, 2, 2, 2]


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral_cfg_pp"])
def test_a_users_function_after_guidance_sees_its_own_model_alone(base, adapted, sampler):
    """On the target: what it is told is the target's prediction, the delta comes on top."""
    told = []

    def note(args):
        told.append((args["denoised"].clone(), args["uncond_denoised"].clone()))
        return args["denoised"]

    target = model(3)
    noted = target.clone()
    noted.set_model_sampler_post_cfg_function(note)
    delta_ksampler(base, base, noted, sampler=sampler, steps=2)
    plain, told[:] = list(told), []
    found = delta_ksampler(base, adapted, noted, sampler=sampler, steps=2)
    assert all(torch.equal(one, other) for one, other in zip(plain[0], told[0], strict=True))
    assert torch.equal(found, delta_ksampler(base, adapted, target, sampler=sampler, steps=2))
    patched = after_guidance(target)
    assert torch.equal(delta_ksampler(base, base, patched, sampler=sampler), ksampler(patched, sampler))


@pytest.mark.parametrize("sampler", ["euler", "euler_cfg_pp"])
def test_guidance_on_the_mixed_prediction_has_a_place_outside(base, adapted, sampler):
    """A patch that wraps the target's prediction (PREDICT_NOISE) sees the sum, and may change it."""
    seen_outside = []

    def guide(executor, *args, **kwargs):
        seen_outside.append(executor(*args, **kwargs))
        return 0.9 * seen_outside[-1]

    guided = base.clone()
    guided.add_wrapper(WrappersMP.PREDICT_NOISE, guide)
    own = adapted.clone()
    own.add_wrapper(WrappersMP.PREDICT_NOISE, lambda executor, *args, **kwargs: 0.9 * executor(*args, **kwargs))
    found = delta_ksampler(base, adapted, guided, sampler=sampler)
    assert relative_error(found, ksampler(own, sampler)) < ROUNDING
    assert relative_error(found, delta_ksampler(base, adapted, base, sampler=sampler)) > 1e-3
    assert len(seen_outside) == 4


class GivenNoise:
    """The same noise whatever the seed."""

    def __init__(self, seed):
        self.seed = seed

    def generate_noise(self, latent_image):
        return torch.randn(latent_image["samples"].shape, generator=torch.Generator().manual_seed(1))


def test_noise_that_the_target_lacks_follows_the_runs_seed():
    generator = torch.Generator().manual_seed(5)
    ways = torch.randn(16, 4, generator=generator), torch.randn(4, 16, generator=generator)
    wide = [denoiser(lambda x, ratio, share=share: share * x, latent_format=SD3) for share in (0.2, 0.4)]
    delta = option("DeltaBridge", pair(*wide), bridge=bridge((16, 8), (4, 8), *ways))
    guider, sampler = delta_guider(model(3), delta), node("KSamplerSelect").execute(sampler_name="euler").result[0]
    sigmas = torch.tensor([14.0, 3.0, 0.0])

    def run(seed):
        out = node("SamplerCustomAdvanced").execute(GivenNoise(seed), guider, sampler, sigmas, latent())
        return out.result[0]["samples"]

    assert torch.equal(run(1), run(1))
    assert not torch.allclose(run(1), run(2))


def test_bridge_vaes_and_controls_are_in_the_one_request(base, monkeypatch):
    """A request of their own later would push the models out that the run has just loaded."""
    requests, load = [], comfy.model_management.load_models_gpu

    def record(models, *args, **kwargs):
        requests.append({id(m.model) for m in models})
        return load(models, *args, **kwargs)

    source_vae, target_vae = vae(4, 1), vae(4, 2)
    positive, negative = control_net(POSITIVE, NEGATIVE)
    delta = pair(base, base, adapted_positive=positive, adapted_negative=negative)
    made = node("LatentBridgeVAE").execute(source_vae=source_vae, target_vae=target_vae).result[0]
    control, target = positive[0][1]["control"].control_model, model(3)
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", record)
    advanced_sampler(target, option("DeltaBridge", delta, bridge=made), steps=1)
    needed = {id(m) for m in (base.model, target.model, control, *(v.patcher.model for v in (source_vae, target_vae)))}
    assert requests[0] == needed


def test_a_bridge_through_vaes_takes_three_round_trips_a_call(base, adapted):
    """One for the state, shared by source and adapted, and one each for what they predict."""
    trips = []

    def counted(made):
        decode = made.first_stage_model.decode
        made.first_stage_model.decode = lambda *args, **kwargs: trips.append(1) or decode(*args, **kwargs)
        return made

    made = node("LatentBridgeVAE").execute(source_vae=counted(vae(4, 1)), target_vae=counted(vae(4, 2))).result[0]
    delta = option("DeltaBridge", pair(base, adapted), bridge=made)
    guider, steps = delta_guider(model(3), delta), node("KSamplerSelect").execute(sampler_name="euler").result[0]
    sigmas = torch.tensor([14.0, 3.0, 1.0, 0.0])

    def count(guider):
        trips.clear()
        node("SamplerCustomAdvanced").execute(GivenNoise(1), guider, steps, sigmas, latent())
        return len(trips)

    assert count(guider) == 3 * 3
