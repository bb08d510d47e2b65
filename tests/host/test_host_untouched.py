"""Whatever happens in a run, the host is afterwards as it was before (design, oracle 8)."""

import gc
import importlib

import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP

from harness.nodes import with_lora

from .test_errors import breaking_at
from .tiny import delta_ksampler, ksampler, model

HOST_MODULES = [
    "comfy.samplers",
    "comfy.sample",
    "comfy.sampler_helpers",
    "comfy.model_patcher",
    "comfy.hooks",
    "nodes",
]


def host_globals():
    """Return every attribute of the host's sampling modules and of the classes in them."""
    found = {}
    for name in HOST_MODULES:
        module = importlib.import_module(name)
        for key, value in vars(module).items():
            found[name, key] = id(value)
            if isinstance(value, type):
                found.update({(name, key, member): id(what) for member, what in vars(value).items()})
    return found


def state_of(patcher):
    """Return all of a patcher that sampling might change, in a form that compares."""
    return {
        "options": repr(patcher.model_options),
        "wrappers": repr(patcher.wrappers),
        "callbacks": repr(patcher.callbacks),
        "patches": {key: len(entries) for key, entries in patcher.patches.items()},
        "uuid": patcher.patches_uuid,
        "object_patches": repr(patcher.object_patches),
        "hooks": repr((patcher.hook_patches, patcher.hook_patches_backup, patcher.current_hooks, patcher.hook_mode)),
        "caches": (len(patcher.hook_backup), len(patcher.cached_hook_patches)),
        "additional_models": repr(patcher.additional_models),
        "injected": patcher.is_injected,
        "current_patcher": patcher.model.current_patcher,
    }


def loaded_modules():
    return {id(entry.model.model) for entry in comfy.model_management.current_loaded_models if entry.model is not None}


class Cancelled(BaseException):
    """As the host's own exception for a cancel: not an Exception."""


def cancel(out):
    raise Cancelled


def fail(out):
    raise ZeroDivisionError


WIRINGS = {
    "a lora pair": lambda base, other: (base, with_lora(base, 5), other),
    "three clones": lambda base, other: (with_lora(base, 6), with_lora(base, 5), with_lora(base, 7)),
    "three models": lambda base, other: (base, model(2), other),
}


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("role", [None, 0, 1, 2], ids=["success", "source", "adapted", "target"])
@pytest.mark.parametrize("act", [fail, cancel])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_sde"])
def test_the_host_is_as_before(wiring, role, act, sampler):
    roles = list(WIRINGS[wiring](model(1), model(3)))
    plain = [ksampler(patcher) for patcher in roles]
    comfy.model_management.unload_all_models()
    weights = [{key: weight.clone() for key, weight in p.model.state_dict().items()} for p in roles]
    if role is not None:
        roles[role] = breaking_at(roles[role], 3, act)
    states, before = [state_of(patcher) for patcher in roles], host_globals()

    if role is None:
        delta_ksampler(*roles, sampler=sampler)
    else:
        with pytest.raises((ValueError, Cancelled)) as caught:
            delta_ksampler(*roles, sampler=sampler)
        assert isinstance(caught.value.__cause__, ZeroDivisionError) or act is cancel

    assert host_globals() == before
    assert [state_of(patcher) for patcher in roles] == states
    gc.collect()
    assert loaded_modules() == {id(patcher.model) for patcher in roles}
    if role is None:
        assert all(torch.equal(ksampler(p), expected) for p, expected in zip(roles, plain, strict=True))
    comfy.model_management.unload_all_models()
    for patcher, kept in zip(roles, weights, strict=True):
        assert all(torch.equal(weight, kept[key]) for key, weight in patcher.model.state_dict().items())


def test_a_failure_while_a_branch_is_prepared_leaves_no_trace():
    shared = model(1)
    adapted = with_lora(shared, 5)
    sampling = type(shared.model.model_sampling)(shared.model.model_config)
    adapted.add_object_patch("model_sampling", sampling)
    own = shared.model.model_sampling
    expected = ksampler(shared)
    adapted.add_callback(CallbacksMP.ON_PRE_RUN, fail)
    with pytest.raises(ValueError, match="The adapted model failed with ZeroDivisionError"):
        delta_ksampler(shared, adapted, model(3))
    assert torch.equal(ksampler(shared), expected)
    assert shared.model.model_sampling is own


def test_two_hundred_runs_leave_nothing_behind():
    shared, target = model(1), model(3)
    adapted = with_lora(shared, 5)

    def alive():
        gc.collect()
        things = gc.get_objects()
        tensors = sum(t.numel() for t in things if type(t) in (torch.Tensor, torch.nn.Parameter))
        return tensors, sum(isinstance(thing, ModelPatcher) for thing in things), len(things)

    for _ in range(5):
        delta_ksampler(shared, adapted, target, steps=1)
    before = alive()
    for _ in range(200):
        delta_ksampler(shared, adapted, target, steps=1)
    after = alive()
    assert after[:2] == before[:2]
    assert after[2] < before[2] + 200, "objects pile up, one or more a run"
