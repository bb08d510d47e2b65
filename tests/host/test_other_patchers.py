"""Model patchers of other packs, which patch weights in ways of their own, behave as models loaded apart."""

import gc
from contextlib import nullcontext

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import pytest
import torch
from comfy.model_patcher import ModelPatcher

from harness.nodes import with_lora

from .memory import dynamic_memory, dynamic_model, partly_loaded, unload
from .test_branches import hook_lora
from .test_errors import breaking_at
from .test_host_untouched import Cancelled, cancel, fail, loaded_modules, state_of
from .test_partly_loaded import SHARES, WIRINGS
from .tiny import (
    CPU,
    NEGATIVE,
    POSITIVE,
    delta_ksampler,
    delta_model,
    ksampler,
    model,
    pair,
    prompt,
    relative_error,
)


class Packed(torch.Tensor):
    """A weight that keeps what is put on it when a parameter is made of it."""

    def detach(self):
        return self


class Quantized(comfy.ops.manual_cast.Linear):
    """A layer whose weight carries the patches that it is used with."""

    def forward_comfy_cast_weights(self, input):
        weight = self.weight.as_subclass(torch.Tensor).to(input.dtype, copy=True)
        for patches, key in getattr(self.weight, "patches", []):
            weight = comfy.lora.calculate_weight(patches, weight, key)
        return torch.nn.functional.linear(input, weight, None if self.bias is None else self.bias.to(input.dtype))


class OnTensors(ModelPatcher):
    """As ComfyUI-GGUF: patches lie on the tensors, wherever those are, and nothing is backed up."""

    def patch_weight_to_device(self, key, device_to=None, inplace_update=False):
        if key in self.patches:
            comfy.utils.get_attr(self.model, key).patches = [(self.patches[key], key)]

    def unpatch_model(self, device_to=None, unpatch_weights=True):
        if unpatch_weights:
            for weight in self.model.parameters():
                weight.patches = []
        return super().unpatch_model(device_to=device_to, unpatch_weights=unpatch_weights)

    def load(self, *args, force_patch_weights=False, **kwargs):
        super().load(*args, force_patch_weights=True, **kwargs)


class OnOutputs(ModelPatcher):
    """Leaves the weights alone: hooks on the layers add what the patches make of their inputs."""

    def load(self, device_to=None, *args, **kwargs):
        patches, self.patches = self.patches, {}
        super().load(device_to, *args, **kwargs)
        self.patches = patches
        for key in patches:
            layer, _ = comfy.utils.resolve_attr(self.model, key)
            delta = comfy.lora.calculate_weight(patches[key], torch.zeros_like(layer.weight), key)
            handle = layer.register_forward_hook(lambda _, args, out, delta=delta: out + args[0] @ delta.T)
            self.model.__dict__.setdefault("handles", []).append(handle)

    def unpatch_model(self, device_to=None, unpatch_weights=True):
        if unpatch_weights:
            for handle in self.model.__dict__.pop("handles", []):
                handle.remove()
        return super().unpatch_model(device_to, unpatch_weights)


class ForGood(ModelPatcher):
    """Adds its patches to the weights, and cannot take them away."""

    def patch_weight_to_device(self, key, device_to=None, inplace_update=False):
        if key in self.patches:
            weight = comfy.utils.get_attr(self.model, key)
            weight.copy_(comfy.lora.calculate_weight(self.patches[key], weight.clone(), key))

    def load(self, *args, force_patch_weights=False, **kwargs):
        super().load(*args, force_patch_weights=True, **kwargs)


def base(patcher_class=OnTensors):
    plain = model(1, dtype=torch.float32)
    for layer in plain.model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.__class__ = Quantized
            layer.weight = torch.nn.Parameter(layer.weight.data.as_subclass(Packed), requires_grad=False)
    return patcher_class(plain.model, CPU, CPU)


def on_weights(patcher):
    """Return all that lies on the weights of a model."""
    return {key: (weight.clone(), getattr(weight, "patches", [])) for key, weight in patcher.model.named_parameters()}


@pytest.mark.parametrize(
    "patcher_class, share", [(OnTensors, 1.0), (OnTensors, 0.5), (OnTensors, 0.01), (OnOutputs, 0.5)]
)
@pytest.mark.parametrize("wiring", WIRINGS)
def test_shared_weights_equal_separate_weights(wiring, patcher_class, share):
    def of():
        return base(patcher_class)

    with partly_loaded(share):
        shared = of()
        # Both stay until they are unloaded: the host stumbles over a patcher that is collected meanwhile.
        together, apart = WIRINGS[wiring](lambda: shared), WIRINGS[wiring](of)
        assert torch.equal(delta_ksampler(*together, steps=2), delta_ksampler(*apart, steps=2))


@pytest.mark.parametrize("share", SHARES)
def test_a_lora_counts(share):
    with partly_loaded(share):
        shared = base()
        adapted, target = with_lora(shared, 5), model(3)
        found = delta_ksampler(shared, adapted, target)
        loaded = shared.loaded_size() / shared.model_size()
    assert relative_error(found, ksampler(target)) > 1e-3
    assert loaded == 1 if share == 1 else loaded < share


def test_a_prompt_pair_beside_a_target_with_a_lora():
    def run(of):
        pair_of_prompts = of()
        delta = pair(pair_of_prompts, pair_of_prompts, adapted_positive=prompt(55))
        return ksampler(delta_model(with_lora(of(), 5), delta))

    shared = base()
    assert torch.equal(run(lambda: shared), run(base))


def test_a_delta_model_as_a_branch():
    def run(of):
        inner = delta_model(of(), pair(of(), with_lora(of(), 5)))
        return delta_ksampler(with_lora(of(), 7), inner, with_lora(of(), 6))

    shared = base()
    assert torch.equal(run(lambda: shared), run(base))


@pytest.mark.parametrize("share", SHARES)
def test_a_hook_on_a_prompt(share):
    positive, negative = hook_lora(POSITIVE, NEGATIVE)
    roles = {"adapted_positive": positive, "adapted_negative": negative}

    def wired(of):
        return with_lora(of(), 6), with_lora(of(), 5), of()

    with partly_loaded(share):
        shared = base()
        together, apart = wired(lambda: shared), wired(base)
        assert torch.equal(delta_ksampler(*together, steps=2, **roles), delta_ksampler(*apart, steps=2, **roles))


def test_a_weight_wrapper_beside_a_lora():
    def wrapped(patcher):
        clone = with_lora(patcher, 5)
        clone.add_weight_wrapper("diffusion_model.input_blocks.0.0.weight", lambda weight: 2 * weight)
        return clone

    def wired(of):
        return of(), wrapped(of()), with_lora(of(), 6)

    with partly_loaded(0.5):
        shared = base()
        together, apart = wired(lambda: shared), wired(base)
        assert torch.equal(delta_ksampler(*together), delta_ksampler(*apart))


def test_models_with_the_same_patches_are_loaded_once(monkeypatch):
    loads = []
    load = OnTensors.load
    monkeypatch.setattr(
        OnTensors, "load", lambda self, *args, **kwargs: (loads.append(self), load(self, *args, **kwargs))
    )
    lone = with_lora(base(), 5)
    delta_ksampler(lone, lone, model(3), adapted_positive=prompt(55))
    assert len(loads) == 1


@pytest.mark.parametrize("role", [None, 0, 1, 2], ids=["success", "source", "adapted", "target"])
@pytest.mark.parametrize("act", [fail, cancel])
def test_the_host_is_as_before(role, act):
    shared = base()
    roles = [with_lora(shared, seed) for seed in (6, 5, 7)]
    plain = [ksampler(patcher, steps=2) for patcher in roles]
    unload()
    before = on_weights(shared)
    if role is not None:
        roles[role] = breaking_at(roles[role], 2, act)
    with partly_loaded(0.5):
        ksampler(roles[2], steps=1)
        loaded = shared.loaded_size()
        unload()
        states = [state_of(patcher) for patcher in roles]
        with nullcontext() if role is None else pytest.raises((ValueError, Cancelled)):
            delta_ksampler(*roles, steps=2)
        assert [state_of(patcher) for patcher in roles] == states
        gc.collect()
        assert loaded_modules() == {id(shared.model)}
        assert 0.99 * loaded <= shared.loaded_size() <= loaded
        on_target = {key: patches for key, (_, patches) in on_weights(shared).items() if patches}
        assert on_target == {key: [(patches, key)] for key, patches in roles[2].patches.items()}
    if role is None:
        assert all(torch.equal(ksampler(p, steps=2), expected) for p, expected in zip(roles, plain, strict=True))
    unload()
    after = on_weights(shared)
    assert all(torch.equal(after[key][0], weight) and after[key][1] == [] for key, (weight, _) in before.items())


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("wiring", ["source lora, adapted base", "a lora on the source"])
def test_patches_that_cannot_be_taken_away_are_refused(wiring, share):
    shared = base(ForGood)
    roles = WIRINGS[wiring](lambda: shared)
    refused = pytest.raises(
        ValueError, match=r"The adapted model shares its .* ForGood, .* expected.* copy of its file"
    )
    with partly_loaded(share), refused:
        delta_ksampler(*roles)


def test_a_streamed_model_of_another_class_is_refused():
    class Dynamic(comfy.model_patcher.ModelPatcherDynamic):
        def patch_weight_to_device(self, key, *args, **kwargs):
            return super().patch_weight_to_device(key, *args, **kwargs)

    with dynamic_memory():
        shared = dynamic_model(1)
        shared.__class__ = Dynamic
        with pytest.raises(ValueError, match=r"The source model shares its weights .*Dynamic.*--disable-dynamic-vram"):
            delta_ksampler(shared, with_lora(shared, 5), model(3))
