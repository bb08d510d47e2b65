"""Under the host's dynamic memory, patchers that share a module behave as models loaded apart.

The host's own code runs, on the CPU; replaced are the allocator of device memory, pinning, and what tells
a CPU (`memory.dynamic_memory`).
"""

import gc
import weakref

import comfy.model_management
import pytest
import torch
from comfy.model_base import ModelType

from harness.nodes import of_the_pack, with_lora

from .memory import dynamic_memory, dynamic_model, partly_loaded, unload
from .test_branches import hook_lora
from .tiny import (
    NEGATIVE,
    POSITIVE,
    ROUNDING,
    SINGLE,
    delta_ksampler,
    delta_model,
    ksampler,
    model,
    pair,
    prompt,
    relative_error,
)


@pytest.fixture(autouse=True)
def dynamic():
    with dynamic_memory():
        yield


def base():
    return dynamic_model(1)


def other():
    return dynamic_model(3, ModelType.V_PREDICTION)


# The wirings of models that are loaded whole, with other and further models dynamic too.
WIRED = {
    "a lora on the source": lambda of: (of(), with_lora(of(), 5), other()),
    "two loras on one base": lambda of: (with_lora(of(), 6), with_lora(of(), 5), other()),
    "three clones": lambda of: (with_lora(of(), 7), with_lora(of(), 5), with_lora(of(), 6)),
    "the target is the bare base": lambda of: (with_lora(of(), 7), with_lora(of(), 5), of()),
    "source lora, adapted base": lambda of: (with_lora(of(), 6), of(), other()),
    "adapted is a delta model": lambda of: (
        of(),
        delta_model(of(), pair(of(), with_lora(of(), 5))),
        with_lora(of(), 6),
    ),
    "adapted another file, target a lora": lambda of: (of(), dynamic_model(2), with_lora(of(), 5)),
}


def entries():
    return len(comfy.model_management.current_loaded_models)


def test_models_are_dynamic_and_a_lora_counts():
    assert base().is_dynamic()
    assert relative_error(ksampler(base()), ksampler(with_lora(base(), 5))) > 1e-3


@pytest.mark.parametrize("share", [1.0, 0.5, 0.01])
@pytest.mark.parametrize("wiring", WIRED)
def test_shared_weights_equal_separate_weights(wiring, share):
    """The static copies that a LoRA pair needs may be loaded in part, which rounds half precision otherwise."""
    shared = base()
    with partly_loaded(share):
        together = delta_ksampler(*WIRED[wiring](lambda: shared))
        expected = delta_ksampler(*WIRED[wiring](base))
    assert torch.equal(together, expected) if SINGLE or share == 1 else relative_error(together, expected) < ROUNDING


@pytest.mark.parametrize("on", ["source", "adapted"])
def test_a_hook_on_a_prompt_beside_a_lora_in_the_branchs_own_file(on):
    positive, negative = hook_lora(POSITIVE, NEGATIVE)
    roles = {f"{on}_positive": positive, f"{on}_negative": negative}

    def wired():
        return with_lora(base(), 6), with_lora(dynamic_model(2), 5), other()

    found = delta_ksampler(*wired(), **roles)
    unload()
    expected = static_run(wired, roles)
    assert relative_error(found, expected) < ROUNDING / 100


def static_run(wired, roles):
    """Return the result of the same models without dynamic memory."""

    def static(patcher):
        _, (seed, *kind) = patcher.cached_patcher_init
        lone = model(seed, *kind, channel_mult=[1, 1])
        lone.patches, lone.patches_uuid = patcher.patches, patcher.patches_uuid
        return lone

    return delta_ksampler(*map(static, wired()), **roles)


@pytest.mark.parametrize("wiring", ["a lora on the source", "the target is the bare base"])
def test_runs_leave_no_entries_in_the_hosts_list_of_loaded_models(wiring):
    shared = base()
    roles = WIRED[wiring](lambda: shared)
    counts = []
    for _ in range(4):
        delta_ksampler(*roles)
        gc.collect()
        counts.append(entries())
    assert counts[1:] == counts[:-1]
    assert all(entry.model is not None for entry in comfy.model_management.current_loaded_models)


def test_hooked_prompts_leave_no_entries_either():
    positive, negative = hook_lora(POSITIVE, NEGATIVE)
    source, adapted, target = base(), with_lora(dynamic_model(2), 5), other()
    counts = []
    for _ in range(4):
        delta_ksampler(source, adapted, target, adapted_positive=positive, adapted_negative=negative)
        gc.collect()
        counts.append(entries())
    assert counts[1:] == counts[:-1]


def test_the_static_copy_lives_as_long_as_its_model():
    shared, target = base(), other()
    delta_ksampler(shared, with_lora(shared, 5), target)
    copies = of_the_pack("sampling.host.lending")._static_copies
    copy = weakref.ref(copies[shared.model].model)
    del shared
    unload()
    gc.collect()
    assert copy() is None
    assert len([entry for entry in comfy.model_management.current_loaded_models if entry.model is None]) == 0


def test_models_without_loras_stay_dynamic():
    """Other prompts need no second copy."""
    shared, target = base(), other()
    delta_ksampler(shared, shared, target, adapted_positive=prompt(55))
    assert shared.model not in of_the_pack("sampling.host.lending")._static_copies


def test_a_loader_that_does_not_say_how_it_loads_is_named_with_the_cure():
    shared = base()
    shared.cached_patcher_init = None
    with pytest.raises(ValueError, match=r"The source model shares its weights .* --disable-dynamic-vram"):
        delta_ksampler(shared, with_lora(shared, 5), other())


def test_the_weights_are_back_after_a_run():
    shared = base()
    before = {key: weight.clone() for key, weight in shared.model.state_dict().items()}
    # They stay until they are unloaded: the host stumbles over a patcher that is collected meanwhile.
    roles = [with_lora(shared, seed) for seed in (7, 5, 6)]
    delta_ksampler(*roles)
    unload()
    assert all(torch.equal(before[key], weight) for key, weight in shared.model.state_dict().items())
