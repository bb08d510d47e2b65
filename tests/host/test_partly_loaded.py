"""On cards that hold a part of a model, patchers that share a module still behave as models loaded apart."""

import comfy.model_management
import comfy.weight_adapter
import pytest
import torch
from comfy.model_base import ModelType

from harness.nodes import with_lora

from .memory import partly_loaded
from .test_branches import control_net, hook_lora
from .test_families import target_of
from .test_shared_weights import SHAPES
from .tiny import NEGATIVE, POSITIVE, ROUNDING, delta_ksampler, ksampler, model, prompt, relative_error

SHARES = [1.0, 0.5, 0.01]


def base(dtype=torch.float32):
    return model(1, dtype=dtype)


# How a user can wire source, adapted and target; `of` returns the base checkpoint.
WIRINGS = SHAPES | {
    "source lora, adapted base": lambda of: (with_lora(of(), 6), of(), model(3, ModelType.V_PREDICTION)),
    "adapted another file, target a lora": lambda of: (of(), model(2), with_lora(of(), 5)),
    "source base, adapted and target loras": lambda of: (of(), with_lora(of(), 5), with_lora(of(), 6)),
}


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("wiring", WIRINGS)
def test_shared_weights_equal_separate_weights(wiring, share):
    with partly_loaded(share):
        shared = base()
        together = delta_ksampler(*WIRINGS[wiring](lambda: shared))
        expected = delta_ksampler(*WIRINGS[wiring](base))
    assert torch.equal(together, expected)


@pytest.mark.parametrize("share", SHARES)
def test_a_part_gives_what_the_whole_gives(share):
    """And it is a part that is loaded."""
    target = model(3)
    whole = delta_ksampler(base(), with_lora(base(), 5), target)
    with partly_loaded(share):
        shared = base()
        found = delta_ksampler(shared, with_lora(shared, 5), target)
        loaded = shared.loaded_size() / shared.model_size()
    assert relative_error(found, whole) < ROUNDING / 10
    assert loaded == 1 if share == 1 else loaded < share


def padded(weight, columns):
    """Return a patch that makes a weight wider, as a difference and as a LoRA has it."""
    generator = torch.Generator().manual_seed(8)
    shape = [weight.shape[0], columns]
    up, down = 0.1 * torch.randn(shape[0], 4, generator=generator), torch.randn(4, columns, generator=generator)
    return {
        "a difference": ("diff", (up @ down, {"pad_weight": True})),
        "a lora": comfy.weight_adapter.LoRAAdapter(set(), (up, down, None, None, None, shape)),
    }


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("kind", ["a difference", "a lora"])
def test_a_lora_that_changes_the_shape_of_a_weight(kind, share):
    """A Flux control LoRA: the model looks at the shape, and takes a picture beside the latent."""

    def control(patcher):
        clone, key = patcher.clone(), "diffusion_model.img_in.weight"
        clone.add_patches({key: padded(patcher.model.diffusion_model.img_in.weight, 128)[kind]})
        return clone

    def run(of):
        picture = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(9))
        given = {"pooled_output": torch.zeros(1, 16), "concat_latent_image": picture}
        conditioning = [[prompt(6)[0][0], given]]
        roles = ("source", "adapted", "target")
        inputs = {f"{role}_{name}": conditioning for role in roles for name in ("positive", "negative")}
        latent = {"samples": torch.zeros(1, 16, 8, 8)}
        return delta_ksampler(of(), control(of()), target_of("Flux"), latent_image=latent, **inputs)

    whole = run(lambda: target_of("Flux"))
    with partly_loaded(share):
        shared = target_of("Flux")
        assert relative_error(run(lambda: shared), whole) < ROUNDING / 10


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("condition", [hook_lora, control_net])
def test_hooks_and_controls_beside_a_lora(condition, share):
    positive, negative = condition(POSITIVE, NEGATIVE)
    roles = {"adapted_positive": positive, "adapted_negative": negative}
    with partly_loaded(share):
        shared = base()
        together = delta_ksampler(with_lora(shared, 6), with_lora(shared, 5), shared, **roles)
        expected = delta_ksampler(with_lora(base(), 6), with_lora(base(), 5), base(), **roles)
    assert relative_error(together, expected) < ROUNDING / 10


@pytest.mark.parametrize("share", SHARES)
def test_the_owner_gets_back_what_it_had(share):
    shared = base()
    before = {key: weight.clone() for key, weight in shared.model.state_dict().items()}
    lone = with_lora(shared, 5)
    expected = ksampler(lone)
    with partly_loaded(share):
        delta_ksampler(with_lora(shared, 6), lone, shared)
        delta_ksampler(lone, with_lora(shared, 6), model(3))
        assert relative_error(ksampler(lone), expected) < ROUNDING / 10
    assert torch.equal(ksampler(lone), expected)
    comfy.model_management.unload_all_models()
    assert all(torch.equal(before[key], weight) for key, weight in shared.model.state_dict().items())


def test_a_lora_of_half_precision_rounds_where_its_layer_lies():
    """Loaded layers are rounded once by the host, offloaded ones are patched in the precision of the run."""
    with partly_loaded(0.5):
        shared = base(torch.float16)
        together = delta_ksampler(shared, with_lora(shared, 5), model(3))
        apart = delta_ksampler(base(torch.float16), with_lora(base(torch.float16), 5), model(3))
    whole = delta_ksampler(base(torch.float16), with_lora(base(torch.float16), 5), model(3))
    assert relative_error(together, whole) < 2 * max(relative_error(apart, whole), 1e-4)


def test_without_room_for_two_sets_of_weights_layers_are_lent_as_offloaded_ones(monkeypatch):
    shared, target = base(), model(3)
    expected = delta_ksampler(base(), with_lora(base(), 5), target)
    monkeypatch.setattr(comfy.model_management, "minimum_inference_memory", lambda: 1e30)
    with partly_loaded(1.0):
        for roles in ((shared, with_lora(shared, 5)), (with_lora(shared, 5), shared)):
            found = delta_ksampler(*roles, target)
            wanted = expected if roles[0] is shared else delta_ksampler(with_lora(base(), 5), base(), target)
            assert relative_error(found, wanted) < ROUNDING / 10
