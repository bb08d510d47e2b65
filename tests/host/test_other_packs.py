"""Patches as other packs write them: they know two kinds of rows, remember, and evaluate what they like.

The oracle is the same patch put on each model apart: what a run of one patched MODEL in several roles gives
has to be what copies of it give.
"""

import types
from functools import partial

import comfy.controlnet
import comfy.hooks
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from harness.nodes import node, of_the_pack, with_lora

from .test_branches import control_net, hook_lora
from .tiny import NEGATIVE, POSITIVE, ROUNDING, counted, delta_ksampler, ksampler, model, prompt, relative_error

OTHER = {"adapted_positive": prompt(55), "adapted_negative": prompt(56)}


def changed(put):
    """Return a way to patch a model: a clone on which `put` has been called."""

    def patch(base):
        clone = base.clone()
        put(clone)
        return clone

    return patch


def by_row(clone):
    """What IPAdapter_plus does: a value for positive and one for negative rows, looked up by their number."""

    def patch(attention, extra):
        factors = [(1.1, 0.8)[row] for row in extra["cond_or_uncond"]]
        size = len(attention) // len(factors)
        return torch.cat([part * factor for part, factor in zip(attention.split(size), factors, strict=True)])

    clone.set_model_attn2_output_patch(patch)


def model_wrapper(clone):
    """What changes the negative rows alone in a model function wrapper."""

    def wrapper(apply_model, args):
        out = apply_model(args["input"], args["timestep"], **args["c"])
        rows = out.chunk(len(args["cond_or_uncond"]))
        return torch.cat(
            [row * (0.9 if kind == 1 else 1) for row, kind in zip(rows, args["cond_or_uncond"], strict=True)]
        )

    clone.set_model_unet_function_wrapper(wrapper)


def momentum(average, new):
    return new if average is None else 0.5 * average + new


def in_a_variable(clone):
    average = None

    def guide(args):
        nonlocal average
        average = momentum(average, args["cond"] - args["uncond"])
        return args["uncond"] + args["cond_scale"] * average

    clone.set_model_sampler_cfg_function(guide)


def in_a_dict(clone):
    state = {"average": None}

    def after(args):
        state["average"] = momentum(state["average"], args["denoised"])
        return args["denoised"] + 0.1 * state["average"]

    clone.set_model_sampler_post_cfg_function(after)


def in_an_object(clone):
    class Momentum:
        def __init__(self):
            self.average = None

        def update(self, new):
            self.average = momentum(self.average, new)
            return self.average

    buffer = Momentum()

    def before(args):
        cond, uncond = args["conds_out"]
        return [uncond + buffer.update(cond - uncond), uncond]

    clone.set_model_sampler_pre_cfg_function(before)


def in_a_method(clone):
    class Guidance:
        averages = ()

        def __call__(self, args):
            self.averages = (*self.averages[-1:], args["denoised"])
            return sum(self.averages) / len(self.averages)

    clone.set_model_sampler_post_cfg_function(Guidance().__call__)


def in_a_default(clone):
    def after(args, state=[]):  # noqa: B006
        state.append(args["denoised"])
        return 0.9 * state[-1] + 0.1 * state[0]

    clone.set_model_sampler_post_cfg_function(after)


def between_two(clone):
    """A value that one function leaves for another."""
    state = types.SimpleNamespace(seen=0)

    def look(args):
        state.seen = state.seen + args["conds_out"][0].abs().mean()
        return args["conds_out"]

    clone.set_model_sampler_pre_cfg_function(look)
    clone.set_model_sampler_post_cfg_function(
        partial(lambda state, args: args["denoised"] * (1 + 0.01 * state.seen), state)
    )


def in_a_wrapper(clone):
    kept = []

    def wrapper(executor, *args, **kwargs):
        kept.append(executor(*args, **kwargs))
        return 0.8 * kept[-1] + 0.2 * kept[0]

    clone.add_wrapper(WrappersMP.APPLY_MODEL, wrapper)


def in_calls_of_its_own(clone):
    average = None

    def calculate(args):
        nonlocal average
        found = comfy.samplers.calc_cond_batch(
            args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
        )
        average = momentum(average, found[0])
        return [0.7 * found[0] + 0.1 * average, found[1]]

    clone.set_model_sampler_calc_cond_batch_function(calculate)


def momentum_of_the_core(base):
    return node("APG").execute(base, 0.5, 5.0, 0.5).result[0]


ROWS = [by_row, model_wrapper]
CORE = [momentum_of_the_core]
MEMORIES = [
    in_a_variable, in_a_dict, in_an_object, in_a_method, in_a_default, between_two, in_a_wrapper, in_calls_of_its_own,
]  # fmt: skip
PATCHES = [*map(changed, [*ROWS, *MEMORIES]), *CORE]
NAMES = [put.__name__ for put in (*ROWS, *MEMORIES, *CORE)]


@pytest.mark.parametrize("patch", PATCHES, ids=NAMES)
def test_one_patched_model_in_both_branches_is_two(base, patch):
    one, target = patch(base), model(3)
    found = delta_ksampler(one, one, target, **OTHER)
    expected = delta_ksampler(patch(base), patch(base), target, **OTHER)
    assert relative_error(found, expected) < ROUNDING / 100
    assert relative_error(delta_ksampler(base, base, target, **OTHER), expected) > 1e-4


@pytest.mark.parametrize("patch", PATCHES, ids=NAMES)
def test_one_patch_behind_which_all_roles_stand(base, patch):
    """A LoRA loader behind a patch, and the patched model as target too."""
    one = patch(base)
    found = delta_ksampler(one, with_lora(one, 5), one)
    expected = delta_ksampler(patch(base), with_lora(patch(base), 5), patch(base))
    assert relative_error(found, expected) < ROUNDING / 100


def test_a_patch_that_only_its_own_model_has_is_left_as_it_is(base):
    """What it notes is noted, and what it remembers stays from run to run, as in the host."""
    calls = {}
    delta_ksampler(base, counted(base, calls, "adapted"), counted(model(3), calls, "target"), steps=3)
    assert calls == {"adapted": 6, "target": 6}


def test_functions_that_refer_to_each_other_keep_doing_so(base):
    def recursive(clone):
        depth = {"most": 2}

        def dampen(value, level=0):
            return value if level == depth["most"] else 0.9 * dampen(value, level + 1)

        clone.set_model_sampler_post_cfg_function(lambda args: dampen(args["denoised"]))

    one, target = changed(recursive)(base), model(3)
    found = delta_ksampler(one, with_lora(one, 5), target)
    apart = delta_ksampler(changed(recursive)(base), with_lora(changed(recursive)(base), 5), target)
    assert torch.equal(found, apart)


class OtherControl(comfy.controlnet.ControlNet):
    """A control of another pack: weakens negative rows, and remembers the calls of its run."""

    calls = 0

    def pre_run(self, model, percent_to_timestep_function):
        super().pre_run(model, percent_to_timestep_function)
        self.calls = 0

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        found = super().get_control(x_noisy, t, cond, batched_number, transformer_options)
        if found is None:
            return None
        self.calls += 1
        factors = [(1.0, 0.5)[row] / self.calls for row in transformer_options["cond_or_uncond"]]
        size = len(x_noisy) // len(factors)
        factor = torch.tensor(factors).repeat_interleave(size)[:, None, None, None]
        return {name: [None if one is None else one * factor for one in parts] for name, parts in found.items()}

    def copy(self):
        copied = OtherControl(None, load_device=self.load_device)
        copied.control_model, copied.control_model_wrapped = self.control_model, self.control_model_wrapped
        self.copy_to(copied)
        return copied


def other_control():
    positive, negative = control_net(POSITIVE, NEGATIVE)
    control = positive[0][1]["control"]
    made = OtherControl(None, load_device=control.load_device)
    made.control_model, made.control_model_wrapped = control.control_model, control.control_model_wrapped
    control.copy_to(made)
    return [[[text, {**options, "control": made}] for text, options in given] for given in (positive, negative)]


def test_a_control_of_another_pack_on_both_prompts(base):
    def result(source, adapted, target):
        roles = {"source_positive": source[0], "source_negative": source[1]}
        roles |= {"adapted_positive": adapted[0], "adapted_negative": adapted[1]}
        patched = with_lora(base, 5)
        return delta_ksampler(base, patched, model(3), positive=target[0], negative=target[1], **roles)

    one = other_control()
    found = result(one, one, one)
    assert relative_error(found, result(other_control(), other_control(), other_control())) < ROUNDING / 100
    assert relative_error(found, ksampler(model(3), positive=one[0], negative=one[1])) > 1e-3


def test_one_control_on_models_of_other_noise(base):
    """A control notes the noise levels of the model it runs with; those of another role must not be its own."""

    def result(adapted, target):
        roles = {"adapted_positive": adapted[0], "adapted_negative": adapted[1]}
        flow = node("ModelSamplingDiscrete")().patch(model(3), "lcm", False)[0]
        sampling = type(flow.get_model_object("model_sampling"))(flow.model.model_config)
        sampling.set_sigmas(model(3).model.model_sampling.sigmas * 3)
        flow.add_object_patch("model_sampling", sampling)
        return delta_ksampler(base, base, flow, positive=target[0], negative=target[1], **roles)

    shared = control_net(POSITIVE, NEGATIVE)
    apart = result(control_net(POSITIVE, NEGATIVE), control_net(POSITIVE, NEGATIVE))
    assert torch.equal(result(shared, shared), apart)


@pytest.mark.parametrize("roles", ["source", "adapted", "both"])
def test_a_conditioning_that_a_patch_evaluates_itself_sees_the_borrowers_weights(roles):
    """The core's Perp-Neg behind a LoRA loader."""

    def perp_neg(patcher):
        return node("PerpNeg").execute(patcher, prompt(77), 0.8).result[0]

    def wired(of):
        source, adapted = with_lora(of(), 6), with_lora(of(), 5)
        source = perp_neg(source) if roles != "adapted" else source
        adapted = perp_neg(adapted) if roles != "source" else adapted
        return source, adapted, of()

    shared = model(1)
    found = delta_ksampler(*wired(lambda: shared))
    assert torch.equal(found, delta_ksampler(*wired(lambda: model(1))))


class FragileHook(comfy.hooks.WeightHook):
    """A hook that does not survive its own clone(), which makes one without arguments."""

    def __init__(self, weights):
        super().__init__(1.0, 1.0)
        self.weights, self.need_weight_init = weights, False


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_hook_that_cannot_be_cloned(base, scheduled):
    weights = {key: entries[0][1] for key, entries in with_lora(model(1), 9).patches.items()}
    group = comfy.hooks.HookGroup()
    group.add(FragileHook(weights))
    if scheduled:
        (hook,) = group.hooks
        hook.hook_keyframe.add(comfy.hooks.HookKeyframe(strength=0.5, start_percent=0.0))
        hook.hook_keyframe.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=0.5))
    positive = [[text, {**options, "hooks": group}] for text, options in POSITIVE]
    adapted = with_lora(base, 5)
    found = delta_ksampler(base, adapted, base, adapted_positive=positive)
    assert relative_error(found, ksampler(adapted, positive=positive)) < ROUNDING


def test_hooks_without_a_schedule_are_the_users_own():
    hooks = of_the_pack("sampling.host.hooks")
    scheduled, _ = hook_lora(POSITIVE, NEGATIVE)
    plain = comfy.hooks.HookGroup()
    plain.add(comfy.hooks.WeightHook(1.0, 1.0))
    ((with_plain, with_schedule),) = zip(
        *[hooks.with_own_schedules([[None, {"hooks": group}]])[0] for group in (plain, scheduled[0][1]["hooks"])],
        strict=True,
    )
    assert with_plain[1]["hooks"] is plain
    assert with_schedule[1]["hooks"] is not scheduled[0][1]["hooks"]
