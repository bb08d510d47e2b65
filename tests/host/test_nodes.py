"""The public contract: node ids, input names and their order, and what a user reads on them."""

import asyncio

import comfy.samplers
import nodes as host_nodes
import pytest

from harness.nodes import of_the_pack

ROLE_INPUTS = [
    f"{role}_{part}" for role in ("source", "adapted", "target") for part in ("model", "positive", "negative")
]
CONTRACT = {
    "DeltaKSampler": (
        [
            *ROLE_INPUTS,
            "delta_strength",
            "seed",
            "steps",
            "cfg",
            "sampler_name",
            "scheduler",
            "latent_image",
            "denoise",
        ],
        ["LATENT"],
    ),
    "DeltaPair": ([*ROLE_INPUTS[:6], "cfg", "strength", "delta"], ["DELTA"]),
    "DeltaGuider": (["model", "positive", "negative", "cfg", "delta"], ["GUIDER"]),
    "DeltaKSamplerAdvanced": (
        [
            "model",
            "positive",
            "negative",
            "delta",
            "add_noise",
            "noise_seed",
            "steps",
            "cfg",
            "sampler_name",
            "scheduler",
            "latent_image",
            "start_at_step",
            "end_at_step",
            "return_with_leftover_noise",
        ],
        ["LATENT"],
    ),
    "DeltaSchedule": (
        ["delta", "start_percent", "end_percent", "curve", "strength_start", "strength_end"],
        ["DELTA"],
    ),
    "DeltaMask": (["delta", "mask"], ["DELTA"]),
    "DeltaLimits": (["delta", "parallel", "norm_limit", "band", "cutoff"], ["DELTA"]),
    "DeltaReuse": (["delta", "every", "threshold", "extrapolate"], ["DELTA"]),
    "DeltaFast": (["delta", "pair_guidance"], ["DELTA"]),
    "DeltaCombine": (["delta_a", "delta_b"], ["DELTA"]),
    "DeltaAutoguidance": (["weak_model", "positive", "negative", "cfg", "strength"], ["DELTA"]),
    "DeltaResolution": (["delta", "scale", "noise_match"], ["DELTA"]),
    "DeltaReport": (["delta", "samples"], ["IMAGE"]),
    "DeltaBridge": (["delta", "bridge"], ["DELTA"]),
    "LatentBridgeFit": (["images", "source_vae", "target_vae", "scale"], ["LATENT_BRIDGE", "STRING"]),
    "LatentBridgeVAE": (["source_vae", "target_vae"], ["LATENT_BRIDGE"]),
    "LatentBridgeSave": (["bridge", "filename_prefix"], ["LATENT_BRIDGE"]),
    "LatentBridgeLoad": (["bridge_name"], ["LATENT_BRIDGE"]),
    "LatentBridgeInterposer": (["source_latents", "target_latents"], ["LATENT_BRIDGE"]),
    "DeltaModel": (["model", "delta"], ["MODEL"]),
    "DeltaPairText": (
        [
            "source_model",
            "source_clip",
            "adapted_model",
            "adapted_clip",
            "prompt",
            "negative",
            "trigger_words",
            "source_prompt",
            "cfg",
            "strength",
            "pair_size",
            "pixels",
            "target_clip",
            "delta",
        ],
        ["DELTA", "CONDITIONING", "CONDITIONING"],
    ),
    "DeltaControlNet": (
        ["delta", "control_net", "image", "strength", "start_percent", "end_percent", "vae"],
        ["DELTA"],
    ),
    "DeltaColorGuidance": (
        ["model", "reference", "strength", "start_percent", "end_percent", "vae"],
        ["MODEL"],
    ),
}


@pytest.fixture(params=CONTRACT)
def schema(request):
    return host_nodes.NODE_CLASS_MAPPINGS[request.param].GET_SCHEMA()


def test_ids_inputs_and_order(schema):
    inputs, outputs = CONTRACT[schema.node_id]
    assert [each.id for each in schema.inputs] == inputs
    assert [each.get_io_type() for each in schema.outputs] == outputs


def test_everything_is_explained(schema):
    assert schema.display_name.startswith(("Delta ", "Latent Bridge "))
    assert len(schema.description) > 40
    assert schema.search_aliases
    assert schema.category.startswith(host_nodes.KSampler.CATEGORY)
    for part in [*schema.inputs, *schema.outputs]:
        assert part.tooltip and part.tooltip.endswith("."), f"{schema.node_id} {part.id} has no tooltip"


def test_the_authors_id_is_our_sampler_under_another_name():
    theirs, ours = (
        host_nodes.NODE_CLASS_MAPPINGS[name].GET_SCHEMA() for name in ("LatentDeltaKSampler", "DeltaKSampler")
    )
    assert [each.id for each in theirs.inputs] == [each.id for each in ours.inputs]
    assert theirs.is_deprecated and theirs.is_dev_only and not (ours.is_deprecated or ours.is_dev_only)


def test_where_the_authors_pack_is_installed_its_id_is_left_alone(monkeypatch):
    extension = of_the_pack("nodes").DeltaSamplingExtension()
    ids = [node.__name__ for node in asyncio.run(extension.get_node_list())]
    assert set(CONTRACT) == set(ids)  # ours is there already
    monkeypatch.delitem(host_nodes.NODE_CLASS_MAPPINGS, "LatentDeltaKSampler")
    assert {node.__name__ for node in asyncio.run(extension.get_node_list())} == {*CONTRACT, "LatentDeltaKSampler"}


def test_defaults_and_ranges():
    def inputs(node):
        return {each.id: each for each in host_nodes.NODE_CLASS_MAPPINGS[node].GET_SCHEMA().inputs}

    strengths = {"DeltaKSampler": "delta_strength", "DeltaPair": "strength", "DeltaAutoguidance": "strength"}
    for node, name in strengths.items():
        strength = inputs(node)[name]
        assert (strength.default, strength.min, strength.max, strength.step) == (1.0, -10.0, 10.0, 0.05)
    for node in ("DeltaKSampler", "DeltaPair", "DeltaGuider", "DeltaKSamplerAdvanced", "DeltaAutoguidance"):
        assert inputs(node)["cfg"].default == 7.0
    assert inputs("DeltaResolution")["scale"].default == 1.0
    assert inputs("DeltaResolution")["noise_match"].options == ["same noise", "same detail"]
    assert inputs("DeltaKSampler")["steps"].default == 20
    assert inputs("DeltaKSampler")["denoise"].default == 1.0
    assert inputs("DeltaPair")["delta"].optional


def test_the_lists_are_the_hosts_live_ones():
    """A pack that adds a sampler to the host's list adds it to ours."""
    for node in ("DeltaKSampler", "DeltaKSamplerAdvanced"):
        options = {each.id: each.options for each in host_nodes.NODE_CLASS_MAPPINGS[node].GET_SCHEMA().inputs
                   if hasattr(each, "options")}  # fmt: skip
        assert options["sampler_name"] is comfy.samplers.KSampler.SAMPLERS
        assert options["scheduler"] is comfy.samplers.KSampler.SCHEDULERS
