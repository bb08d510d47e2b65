"""Patchers that share one module behave as models loaded apart, and cost one copy of the weights."""

import comfy.model_management
import comfy.model_patcher
import pytest
import torch
from comfy.model_base import ModelType

from harness.nodes import node, with_lora

from .tiny import delta_ksampler, ksampler, model


def base():
    return model(1)


def other():
    return model(3, ModelType.V_PREDICTION)


# How a user can wire source, adapted and target; `of` returns the base checkpoint.
SHAPES = {
    "a lora on the source": lambda of: (of(), with_lora(of(), 5), other()),
    "two loras on one base": lambda of: (with_lora(of(), 6), with_lora(of(), 5), other()),
    "a lora on a lora": lambda of: (with_lora(of(), 6), with_lora(with_lora(of(), 6), 5), other()),
    "three clones": lambda of: (with_lora(of(), 7), with_lora(of(), 5), with_lora(of(), 6)),
    "the target is the bare base": lambda of: (with_lora(of(), 7), with_lora(of(), 5), of()),
    "one lora, loaded twice": lambda of: (of(), with_lora(of(), 5), with_lora(of(), 5)),
}


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2s_ancestral_cfg_pp"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shared_weights_equal_separate_weights(shape, sampler):
    shared = base()
    together = delta_ksampler(*SHAPES[shape](lambda: shared), sampler=sampler)
    apart = SHAPES[shape](base)
    expected = delta_ksampler(*apart, sampler=sampler)
    assert torch.equal(together, expected)
    assert not torch.equal(expected, ksampler(apart[2], sampler))


def test_one_model_object_as_adapted_and_target():
    shared = base()
    adapted = with_lora(shared, 5)
    expected = delta_ksampler(base(), with_lora(base(), 5), with_lora(base(), 5))
    assert torch.equal(delta_ksampler(shared, adapted, adapted), expected)


def test_half_precision_rounds_once_as_a_loaded_model_does():
    def half():
        return model(1, dtype=torch.float16)

    shared = half()
    together = delta_ksampler(with_lora(shared, 7), with_lora(with_lora(shared, 7), 5), with_lora(shared, 6))
    apart = delta_ksampler(with_lora(half(), 7), with_lora(with_lora(half(), 7), 5), with_lora(half(), 6))
    assert torch.equal(together, apart)


def test_one_model_in_every_role_is_the_ksampler():
    lone = with_lora(base(), 5)
    assert torch.equal(delta_ksampler(lone, lone, lone, 2.0), ksampler(lone))


@pytest.mark.parametrize("change", [0, 1, 2], ids=["source", "adapted", "target"])
def test_a_model_with_a_compute_dtype_of_its_own(change):
    """What Model Compute Dtype does: each layer then casts its weights."""

    def wired(of):
        roles = [of(), with_lora(of(), 5), with_lora(of(), 6)]
        roles[change] = node("ModelComputeDtype")().patch(roles[change], "bf16")[0]
        return roles

    def of():
        return model(1, dtype=torch.float32)

    shared = of()
    assert torch.equal(delta_ksampler(*wired(lambda: shared), steps=2), delta_ksampler(*wired(of), steps=2))


def test_clones_that_differ_in_objects_keep_each_their_own():
    def shifted(patcher):
        clone = patcher.clone()
        sampling = type(patcher.model.model_sampling)(patcher.model.model_config)
        sampling.set_sigmas(patcher.model.model_sampling.sigmas * 1.5)
        clone.add_object_patch("model_sampling", sampling)
        return clone

    shared = base()
    together = delta_ksampler(shared, shifted(shared), with_lora(shared, 6))
    apart = delta_ksampler(base(), shifted(base()), with_lora(base(), 6))
    assert torch.equal(together, apart)
    assert not torch.equal(apart, ksampler(with_lora(base(), 6)))


def test_clones_that_differ_in_injections_keep_each_their_own():
    def injected(patcher):
        """Double the output of the model while injected."""
        clone = patcher.clone()
        last = patcher.model.diffusion_model.out[2]
        handle = []
        inject = comfy.model_patcher.PatcherInjection(
            inject=lambda _: handle.append(last.register_forward_hook(lambda module, args, out: 2 * out)),
            eject=lambda _: handle.pop().remove(),
        )
        clone.set_injections("double", [inject])
        return clone

    shared = base()
    together = delta_ksampler(shared, injected(shared), with_lora(shared, 6))
    apart = delta_ksampler(base(), injected(base()), with_lora(base(), 6))
    assert torch.equal(together, apart)
    assert not torch.equal(apart, ksampler(with_lora(base(), 6)))
    assert len(shared.model.diffusion_model.out[2]._forward_hooks) == 0


def test_a_run_loads_all_its_models_in_one_request_and_a_lora_pair_once(monkeypatch):
    requests = []
    load = comfy.model_management.load_models_gpu

    def record(models, *args, **kwargs):
        requests.append({id(m.model) for m in models})
        return load(models, *args, **kwargs)

    shared, target = base(), model(3)
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", record)
    delta_ksampler(shared, with_lora(shared, 5), target)
    assert requests == [{id(shared.model), id(target.model)}]
    loaded = [m.model.model for m in comfy.model_management.current_loaded_models if m.model is not None]
    assert sum(m is shared.model for m in loaded) == 1


def test_the_weights_are_back_after_a_run():
    shared = base()
    before = {key: weight.clone() for key, weight in shared.model.state_dict().items()}
    delta_ksampler(with_lora(shared, 7), with_lora(shared, 5), with_lora(shared, 6))
    comfy.model_management.unload_all_models()
    after = shared.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
