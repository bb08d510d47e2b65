"""Each branch runs with all that is its own.

The oracle is the telescoping identity: with the source as target and strength 1, whatever makes
the adapted branch differ has to arrive, and the result is the adapted branch sampled by itself.
"""

import comfy.hooks
import comfy.patcher_extension
import pytest
import torch

from harness.nodes import node, with_lora

from .tiny import (
    NEGATIVE,
    POSITIVE,
    ROUNDING,
    control,
    delta_ksampler,
    ksampler,
    latent,
    model,
    prompt,
    relative_error,
    seen,
)


def assert_arrives(found, expected, without):
    """Check that `found` is `expected` but for rounding, which is far less than the difference in question."""
    effect = (expected - without).abs().max()
    assert effect > 1e-4 * expected.abs().max()
    assert (found - expected).abs().max() < 0.01 * effect
    assert relative_error(found, expected) < ROUNDING


def attention_patch(base):
    """What IP-Adapter and its kin do: a patch in the model's transformer options."""
    clone = base.clone()
    clone.set_model_attn2_output_patch(lambda attention, extra: 0.3 * attention)
    return clone


def replaced_guidance(base):
    """What RescaleCFG does: a guidance function in the model's options."""
    return node("RescaleCFG")().patch(base, 0.7)[0]


def after_guidance(base):
    """What PAG and its kin do: a function after the guidance."""
    clone = base.clone()
    clone.set_model_sampler_post_cfg_function(lambda args: args["denoised"] + 0.1 * args["cond_denoised"])
    return clone


def freeu(base):
    return node("FreeU_V2").execute(base, 1.3, 1.4, 0.9, 0.2).result[0]


def call_wrapper(base):
    """What context windows, TeaCache and their kin do: a wrapper around the model."""

    def wrapper(executor, *args, **kwargs):
        return 0.5 * executor(*args, **kwargs)

    clone = base.clone()
    clone.add_wrapper(comfy.patcher_extension.WrappersMP.APPLY_MODEL, wrapper)
    return clone


def prediction_wrapper(base):
    """What CFGOverride and LazyCache do: a wrapper around the guider's prediction, which sees the guider."""

    def wrapper(executor, *args, **kwargs):
        executor.class_obj.cfg = 2.0
        return executor(*args, **kwargs)

    clone = base.clone()
    clone.add_wrapper(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, wrapper)
    return clone


def changed_sampling(base):
    return node("ModelSamplingDiscrete")().patch(base, "v_prediction", False)[0]


def lora(base):
    return with_lora(base, 5)


MODELS = [
    attention_patch,
    replaced_guidance,
    after_guidance,
    freeu,
    call_wrapper,
    prediction_wrapper,
    changed_sampling,
    lora,
]


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral_cfg_pp"])
@pytest.mark.parametrize("adapt", MODELS)
def test_what_a_model_carries_acts_in_its_branch(base, adapt, sampler):
    adapted = adapt(base)
    expected = ksampler(adapted, sampler)
    found = delta_ksampler(base, adapted, base, sampler=sampler)
    assert_arrives(found, expected, without=ksampler(base, sampler))


@pytest.mark.parametrize("adapt", MODELS)
def test_it_acts_only_there(base, adapt):
    """The source's own extras cancel against the same ones in the adapted branch, and leave the target's alone."""
    extra = adapt(base)
    target = after_guidance(model(3))
    assert torch.equal(delta_ksampler(extra, extra, target), ksampler(target))


def other_prompt(positive, negative):
    return prompt(55), prompt(56)


def area(positive, negative):
    return node("ConditioningSetArea")().append(prompt(55), 32, 32, 0, 16, 1.0)[0] + positive, negative


def masked(positive, negative):
    mask = torch.zeros(1, 8, 8)
    mask[:, :, 4:] = 1
    return node("ConditioningSetMask")().append(prompt(55), mask, "default", 1.0)[0] + positive, negative


def half_the_time(positive, negative):
    return node("ConditioningSetTimestepRange")().set_range(prompt(55), 0.0, 0.4)[0] + positive, negative


def hook_lora(positive, negative):
    """A LoRA hooked onto the prompt (Create Hook LoRA), with a schedule."""
    base = model(1)
    added = with_lora(base, 9).patches
    hook = comfy.hooks.WeightHook(1.0, 1.0)
    hook.weights = {key: entries[0][1] for key, entries in added.items()}
    hook.need_weight_init = False
    group = comfy.hooks.HookGroup()
    group.add(hook)
    keyframes = comfy.hooks.HookKeyframeGroup()
    keyframes.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=0.0))
    keyframes.add(comfy.hooks.HookKeyframe(strength=0.2, start_percent=0.5))
    group.set_keyframes_on_hooks(keyframes)
    return comfy.hooks.set_hooks_for_conditioning(positive, group), negative


def control_net(positive, negative):
    image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(4))
    return node("ControlNetApplyAdvanced")().apply_controlnet(positive, negative, control(), image, 0.8, 0.0, 0.8)


CONDITIONINGS = [other_prompt, area, masked, half_the_time, hook_lora, control_net]


@pytest.mark.parametrize("sampler", ["euler", "dpm_2_ancestral"])
@pytest.mark.parametrize("condition", CONDITIONINGS)
def test_what_conditioning_carries_acts_in_its_branch(base, condition, sampler):
    positive, negative = condition(POSITIVE, NEGATIVE)
    expected = ksampler(base, sampler, positive=positive, negative=negative)
    found = delta_ksampler(base, base, base, sampler=sampler, adapted_positive=positive, adapted_negative=negative)
    assert_arrives(found, expected, without=ksampler(base, sampler))


@pytest.mark.parametrize("condition", CONDITIONINGS)
def test_conditioning_and_a_lora_together(base, condition):
    """Most of all hooks: the pair's own weight hooks must not push out a user's."""
    positive, negative = condition(POSITIVE, NEGATIVE)
    adapted = with_lora(base, 5)
    expected = ksampler(adapted, positive=positive, negative=negative)
    found = delta_ksampler(base, adapted, base, adapted_positive=positive, adapted_negative=negative)
    assert_arrives(found, expected, without=ksampler(base))


@pytest.mark.parametrize("condition", CONDITIONINGS)
def test_the_targets_own_conditioning_stays(base, condition):
    positive, negative = condition(POSITIVE, NEGATIVE)
    lent_and_back = with_lora(base, 5)
    expected = ksampler(base, positive=positive, negative=negative)
    found = delta_ksampler(lent_and_back, lent_and_back, base, positive=positive, negative=negative)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("condition", CONDITIONINGS)
def test_one_conditioning_may_serve_several_roles(base, condition):
    """As when one Apply ControlNet feeds the adapted and the target prompts."""

    def result(adapted, target):
        positive, negative = target
        extra = {"adapted_positive": adapted[0], "adapted_negative": adapted[1]}
        return delta_ksampler(base, with_lora(base, 5), base, positive=positive, negative=negative, **extra)

    shared = condition(POSITIVE, NEGATIVE)
    apart = result(condition(POSITIVE, NEGATIVE), condition(POSITIVE, NEGATIVE))
    assert torch.equal(result(shared, shared), apart)


def test_wrappers_and_callbacks_run_once_a_run_for_their_branch_only():
    counts = {}

    def counting(role, patcher):
        clone = patcher.clone()

        def count(name):
            def callback(*args, **kwargs):
                counts[role, name] = counts.get((role, name), 0) + 1

            return callback

        kinds = comfy.patcher_extension.CallbacksMP
        for kind in (kinds.ON_PRE_RUN, kinds.ON_CLEANUP, kinds.ON_PREPARE_STATE):
            clone.add_callback(kind, count(kind))
        return clone

    shared = model(1)
    source, adapted, target = counting("source", shared), counting("adapted", shared), counting("target", model(3))
    steps = 4
    delta_ksampler(source, adapted, target, steps=steps, latent_image=latent(2))
    for role in ("source", "adapted", "target"):
        assert counts[role, "on_pre_run"] == 1
        assert counts[role, "on_prepare_state"] == steps
        assert counts[role, "on_cleanup"] >= 1


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde", "euler_cfg_pp"])
@pytest.mark.parametrize("cfg", [1.0, 5.0])
@pytest.mark.parametrize("condition", [other_prompt, control_net, area, masked])
def test_one_model_with_two_prompts_runs_them_in_one_call(base, condition, cfg, sampler):
    """As if they were evaluated one after the other, which clones of one model are."""
    calls = []
    positive, negative = condition(POSITIVE, NEGATIVE)
    how = {"adapted_positive": positive, "adapted_negative": negative, "cfg": cfg, "sampler": sampler, "steps": 3}
    target = model(3)
    with seen(base, lambda x: calls.append(len(x))):
        expected = delta_ksampler(base, base.clone(), target, **how)
        apart = list(calls)
        calls.clear()
        found = delta_ksampler(base, base, target, **how)
    assert relative_error(found, expected) < ROUNDING
    assert sum(calls) == sum(apart)
    if condition is other_prompt:
        assert len(calls) == len(apart) / 2
