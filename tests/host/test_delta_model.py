"""Delta Model: a MODEL that carries deltas, wherever it is put."""

import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy.model_base import ModelType

from harness.nodes import of_the_pack, option, run_node, with_lora

from .memory import partly_loaded
from .tiny import (
    NEGATIVE,
    POSITIVE,
    ROUNDING,
    advanced_sampler,
    autoguidance,
    combine,
    custom_sampler,
    delta_guider,
    delta_ksampler,
    delta_model,
    image_latent,
    ksampler,
    model,
    pair,
    prompt,
    relative_error,
)


@pytest.fixture(scope="module")
def target():
    return model(3, ModelType.V_PREDICTION)


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_a_ksampler_on_it_is_the_delta_ksampler(base, adapted, target, sampler):
    delta = pair(base, adapted, 0.7)
    expected = advanced_sampler(target, delta, sampler)["samples"]
    assert torch.equal(ksampler(delta_model(target, delta), sampler), expected)


GUIDERS = {
    "basic": lambda model: run_node("BasicGuider", model=model, conditioning=POSITIVE),
    "cfg": lambda model: run_node("CFGGuider", model=model, positive=POSITIVE, negative=NEGATIVE, cfg=5.0),
    "dual": lambda model: run_node(
        "DualCFGGuider", model=model, cond1=POSITIVE, cond2=prompt(103), negative=NEGATIVE, cfg_conds=3.0,
        cfg_cond2_negative=2.0,
    ),
    "perpendicular": lambda model: run_node(
        "PerpNegGuider", model=model, positive=POSITIVE, negative=NEGATIVE, empty_conditioning=prompt(104), cfg=5.0,
        neg_scale=1.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("guider", GUIDERS)
def test_every_guider_adds_the_delta(base, adapted, guider):
    """The target's share goes through the guider, the delta beside it does not: two times the half is the whole."""
    half = delta_model(delta_model(base, pair(base, adapted, 0.5)), pair(base, adapted, 0.5))
    found, expected = (custom_sampler(GUIDERS[guider](each)) for each in (half, delta_model(base, pair(base, adapted))))
    assert relative_error(found, expected) < ROUNDING
    assert relative_error(custom_sampler(GUIDERS[guider](base)), expected) > 0.005


PATCHES = {
    "a LoRA": lambda model: with_lora(model, 8),
    "RescaleCFG": lambda model: run_node("RescaleCFG", model=model, multiplier=0.7),
    "PAG": lambda model: run_node("PerturbedAttentionGuidance", model=model, scale=3.0),
    "FreeU": lambda model: run_node("FreeU_V2", model=model),
    "ModelSamplingDiscrete": lambda model: run_node("ModelSamplingDiscrete", model=model, sampling="eps"),
}


@pytest.mark.parametrize("patch", PATCHES)
def test_what_is_behind_it_is_as_if_before(base, adapted, target, patch):
    delta = pair(base, adapted)
    behind, before = PATCHES[patch](delta_model(target, delta)), delta_model(PATCHES[patch](target), delta)
    assert torch.equal(ksampler(behind), ksampler(before))
    assert not torch.equal(ksampler(behind), ksampler(delta_model(target, delta)))


@pytest.mark.parametrize("sampler", ["euler", "euler_cfg_pp"])
@pytest.mark.parametrize("share", [1, 0.5])
def test_one_behind_the_other_is_both_together(base, adapted, target, sampler, share):
    """Their pairs share a module, and all carry LoRAs."""
    first, second = pair(base, adapted), pair(with_lora(base, 7), with_lora(base, 6), 0.5)
    with partly_loaded(share):
        stacked = ksampler(delta_model(delta_model(target, first), second), sampler)
        together = ksampler(delta_model(target, combine(first, second)), sampler)
    assert torch.equal(stacked, together)


def test_a_sampler_of_the_packs_own_adds_its_delta_to_those_of_the_model(base, adapted, target):
    first, second = pair(base, adapted), pair(base, with_lora(base, 6), 0.5)
    expected = ksampler(delta_model(delta_model(target, first), second))
    carrier = delta_model(target, first)
    assert torch.equal(delta_ksampler(base, with_lora(base, 6), carrier, 0.5), expected)
    assert torch.equal(advanced_sampler(carrier, second)["samples"], expected)
    assert torch.equal(custom_sampler(delta_guider(carrier, second)), expected)


def test_a_rule_of_combining_is_that_of_its_own_deltas(base, adapted, target):
    """Deltas that were put on later do not change how the first ones are combined."""

    def mean(prediction, terms):
        return prediction + sum(terms) / max(len(terms), 1)

    both = combine(pair(base, adapted), pair(base, with_lora(base, 6)))
    averaged = of_the_pack("sampling.delta").Deltas(both.deltas, mean)
    third = pair(base, with_lora(base, 7))
    halves = both.each(lambda delta: type(delta)(delta.source, delta.adapted, delta.strength / 2))
    found = ksampler(delta_model(delta_model(target, averaged), third))
    assert relative_error(found, ksampler(delta_model(target, combine(halves, third)))) < ROUNDING


def carrying(base, lora):
    """A model that says what `base` with a LoRA says, by a delta."""
    return delta_model(base, pair(base, with_lora(base, lora)))


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2s_ancestral_cfg_pp"])
@pytest.mark.parametrize("share", [1, 0.5])
class TestAsABranchOfAnotherPair:
    """All on one module, the base's; what is expected is made of models that were loaded apart."""

    def check(self, sampler, share, found, expected):
        with partly_loaded(share):
            assert relative_error(ksampler(found, sampler), ksampler(expected, sampler)) < ROUNDING

    def test_as_adapted(self, base, target, sampler, share):
        found = delta_model(target, pair(base, carrying(base, 5)))
        self.check(sampler, share, found, delta_model(target, pair(model(1), with_lora(model(1), 5))))

    def test_as_source(self, base, target, sampler, share):
        found = delta_model(target, pair(carrying(base, 5), with_lora(base, 6)))
        self.check(sampler, share, found, delta_model(target, pair(with_lora(model(1), 5), with_lora(model(1), 6))))

    def test_in_both_and_on_the_target(self, base, sampler, share):
        found = delta_model(with_lora(base, 7), pair(carrying(base, 5), carrying(base, 6)))
        expected = delta_model(with_lora(model(1), 7), pair(with_lora(model(1), 5), with_lora(model(1), 6)))
        self.check(sampler, share, found, expected)

    def test_within_one_another(self, base, target, sampler, share):
        inner = carrying(base, 5)
        outer = delta_model(base, pair(base, delta_model(base, pair(base, inner))))
        found = delta_model(target, pair(base, outer))
        self.check(sampler, share, found, delta_model(target, pair(model(1), with_lora(model(1), 5))))

    def test_as_the_weak_model(self, base, target, sampler, share):
        found = delta_model(target, autoguidance(carrying(base, 5)))
        self.check(sampler, share, found, delta_model(target, autoguidance(with_lora(model(1), 5))))

    def test_as_what_is_guided(self, base, sampler, share):
        found = delta_model(carrying(base, 5), autoguidance(model(2), 0.5))
        self.check(sampler, share, found, delta_model(with_lora(model(1), 5), autoguidance(model(2), 0.5)))


def test_options_of_a_delta_within_count(base, target):
    late = option("DeltaSchedule", pair(base, with_lora(base, 5)), start_percent=1.0)
    found = delta_model(target, pair(base, delta_model(base, late)))
    assert torch.equal(ksampler(found), ksampler(target))


def test_at_another_resolution(base, target):
    """The branch that carries a delta sees a picture to start from and a mask, in its own size."""
    image = image_latent(5, size=16, noise_mask=torch.eye(16)[None])
    inner = delta_model(base, pair(base, with_lora(base, 5)))
    outer = option("DeltaResolution", pair(base, inner), scale=0.5)
    expected = option("DeltaResolution", pair(model(1), with_lora(model(1), 5)), scale=0.5)
    found = ksampler(delta_model(target, outer), latent_image=image, denoise=0.6)
    assert relative_error(found, ksampler(delta_model(target, expected), latent_image=image, denoise=0.6)) < ROUNDING


def test_runs_of_other_sizes_and_clones_know_nothing_of_each_other(base, adapted, target):
    carrier = delta_model(target, pair(base, adapted))
    first = ksampler(carrier)
    ksampler(carrier.clone(), latent_image=image_latent(2, batch=2, size=16))
    assert torch.equal(ksampler(carrier), first)
    assert torch.equal(ksampler(carrier.clone()), first)
    assert torch.equal(ksampler(target), ksampler(model(3, ModelType.V_PREDICTION)))


def test_a_run_in_the_midst_of_another(base, adapted, target):
    """As a patch that samples does. ComfyUI itself wants its modules to be others than the outer run's."""
    outer, inner = delta_model(target, pair(base, adapted)), delta_model(model(6), pair(model(4), model(5)))
    expected, inside = (ksampler(outer), ksampler(inner)), []

    def sample_once(args):
        if not inside:
            inside.append(ksampler(inner))
        return args["denoised"]

    outer.set_model_sampler_post_cfg_function(sample_once)
    assert torch.equal(ksampler(outer), expected[0])
    assert torch.equal(inside[0], expected[1])


def test_all_models_are_loaded_in_one_request(base, target, monkeypatch):
    requests = []
    load = comfy.model_management.load_models_gpu

    def record(models, *args, **kwargs):
        requests.append({id(each.model) for each in models})
        return load(models, *args, **kwargs)

    inner = delta_model(base, pair(model(4), model(5)))
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", record)
    ksampler(delta_model(target, pair(base, inner)))
    assert len(requests) == 1
    assert len(requests[0]) == 4


def test_the_report_is_of_the_sampler_that_ran(base, adapted, target):
    first, second = pair(base, adapted), pair(base, with_lora(base, 6))
    ksampler(delta_model(delta_model(target, first), second), steps=3)
    traces = of_the_pack("sampling.host.run").last_traces
    for delta in (first, second):
        (trace,) = traces(delta)
        assert len(trace.entries) == 3


def test_an_error_names_the_role_within_the_role(base, target):
    bad = pair(base, with_lora(base, 5), source_positive=prompt(1, width=24))
    found = delta_model(target, pair(base, delta_model(base, bad)))
    with pytest.raises(of_the_pack("sampling.errors").DeltaError, match="The adapted's source model was given text"):
        ksampler(found)
