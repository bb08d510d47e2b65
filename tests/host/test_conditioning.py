"""Places in a pair's conditioning: at another size and in other latents they are the same shares of the picture."""

import comfy.gligen
import comfy.latent_formats
import comfy.model_base
import comfy.samplers
import comfy.supported_models
import pytest
import torch
from comfy.model_patcher import ModelPatcher

from harness.nodes import node, option, run_node, shown

from .gaussian import denoiser
from .test_families import target_of
from .tiny import (
    CPU,
    POSITIVE,
    advanced_sampler,
    bridge,
    combine,
    control,
    delta_model,
    latent,
    model,
    pair,
    randomise,
    seen,
)

EDGE = 16  # of the target's latent, in cells of 8 pixels
SCALES = [1.0, 0.5, 0.75]


def prompted(source, options: dict, scale: float = 1.0):
    """Return the DELTA of a pair of one model, both with `options` in their positive prompt, at `scale`."""
    positive = [[POSITIVE[0][0], options]]
    delta = pair(source, source, cfg=1.0, source_positive=positive, adapted_positive=positive)
    return option("DeltaResolution", delta, scale=scale)


def sample(delta, target=None, edge: int = EDGE) -> torch.Tensor:
    return advanced_sampler(target or model(3), delta, latent_image=latent(1, edge), steps=1)["samples"]


def coarse_target(downscale: int = 16):
    """Return a target whose latents have larger cells than those of SD1.x, and the bridge to these."""

    class Coarse(comfy.latent_formats.LatentFormat):
        latent_channels, spacial_downscale_ratio = 16, downscale

    target = denoiser(lambda x, ratio: x * 0, latent_format=Coarse)
    return target, bridge((4, 8), (16, 16), torch.eye(16), torch.eye(16))


class Told(comfy.model_base.BaseModel):
    """A model of the host's that keeps what it is told of its positive prompt."""

    def extra_conds(self, **kwargs):
        if kwargs["prompt_type"] == "positive":
            self.told = kwargs
        return super().extra_conds(**kwargs)


def gligen(boxes: list) -> ModelPatcher:
    """Return a GLIGEN model for the tiny UNet that notes the boxes [B, N, 4] of each call in `boxes`."""
    widths = [32, 64, 64, 64, 64, 32, 32]
    with torch.inference_mode(False):
        layers = [comfy.gligen.GatedSelfAttentionDense(width, 16, 4, width // 4) for width in widths]
        made = comfy.gligen.Gligen(layers, comfy.gligen.PositionNet(16, 16), 16)
        randomise(made, 5)
    made.position_net.register_forward_pre_hook(lambda module, args: boxes.append(args[0].clone()))
    return ModelPatcher(made, CPU, CPU)


# Of the target's picture of 128 x 128 pixels: x, y, width and height of a box.
BOX = {"x": 64, "y": 0, "width": 64, "height": 128}


def boxed(boxes: list) -> dict:
    """Return the options of a prompt with the text box that the host's node makes of BOX."""

    class Words:
        def tokenize(self, text):
            return text

        def encode_from_tokens(self, tokens, return_pooled):
            return None, torch.ones(1, 16)

    (positive,) = node("GLIGENTextBoxApply")().append(POSITIVE, Words(), gligen(boxes), "a cat", **BOX)
    return positive[0][1]


@pytest.mark.parametrize("scale", SCALES)
def test_a_gligen_box_is_a_share_of_the_picture(base, scale):
    boxes = []
    sample(prompted(base, boxed(boxes), scale))
    assert boxes and all(torch.equal(each[0, 0], torch.tensor([0.5, 0, 1, 1])) for each in boxes)


def test_a_gligen_box_beside_a_target_of_larger_cells(base):
    target, way = coarse_target()
    boxes = []
    delta = option("DeltaBridge", prompted(base, boxed(boxes)), bridge=way)
    advanced_sampler(target, delta, latent_image={"samples": torch.zeros(1, 16, 8, 8)}, steps=1)
    assert boxes and all(torch.equal(each[0, 0], torch.tensor([0.5, 0, 1, 1])) for each in boxes)


def areas(base, options: dict, scale: float, edge: int = EDGE) -> set:
    """Return the sizes of what `base` is shown for a prompt with `options`."""
    sizes = set()
    with seen(base, lambda x: sizes.add(tuple(x.shape[2:]))):
        sample(prompted(base, options, scale), edge=edge)
    return sizes


@pytest.mark.parametrize("scale", SCALES)
def test_an_area_is_a_share_of_the_picture(base, scale):
    area = run_node("ConditioningSetArea", conditioning=POSITIVE, **BOX, strength=1.0)[0][1]
    assert areas(base, area, scale) == {(EDGE * scale, EDGE / 2 * scale)}


def test_areas_side_by_side_leave_no_gap_between_them(base):
    """Nine cells for sixteen: each area ends where the next begins, and a thin one at the edge is still there."""
    found = []
    halves = [{"area": (EDGE, 8, 0, 0)}, {"area": (EDGE, 7, 0, 8)}, {"area": (EDGE, 1, 0, 15)}]
    positive = [[POSITIVE[0][0] * (1 + number), options] for number, options in enumerate(halves)]
    source = shown(base, lambda args: found.append(args["input"].shape))
    delta = pair(source, source, cfg=1.0, source_positive=positive, adapted_positive=positive)
    sample(option("DeltaResolution", delta, scale=0.55))
    assert {width for *_, width in found} == {1, 4} and sum(rows * width for rows, *_, width in found) == 9


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [8, 12])
def test_the_bounds_of_a_mask_are_a_share_of_the_picture(base, scale, size):
    mask = torch.zeros(1, 128, 128)
    mask[:, : size * 8, -size * 8 :] = 1
    bounds = {"mask": mask, "set_area_to_bounds": True, "mask_strength": 1.0}
    assert areas(base, bounds, scale) == {(size * scale, size * scale)}


LAID_OVER_OR_BESIDE = {
    "concat_latent_image": (1, 4, EDGE, EDGE),
    "reference_latents": (1, 4, EDGE, EDGE),
    "context_latents": (1, 4, 1, EDGE, EDGE),
    "ref_latent": (1, 4, 1, EDGE, EDGE),
    "time_dim_concat": (1, 4, 2, EDGE, EDGE),
    "time_dim_replace": (1, 4, 1, EDGE, EDGE),
    "vace_frames": (1, 8, 1, EDGE, EDGE),
    "vace_mask": (1, 64, 1, EDGE, EDGE),
    "pose_video_latent": (1, 4, 1, EDGE, EDGE),
    "control_video": (1, 4, 1, EDGE, EDGE),
    "reference_motion": (1, 4, 3, EDGE, EDGE),
    "condition": (1, 5, 1, EDGE, EDGE),
}


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("key", LAID_OVER_OR_BESIDE)
def test_latents_of_the_conditioning_are_resized_as_the_state_is(key, scale):
    given = torch.randn(LAID_OVER_OR_BESIDE[key], generator=torch.Generator().manual_seed(4))
    in_list = key in ("reference_latents", "context_latents", "vace_frames", "vace_mask")
    source = model(1, base=Told)
    sample(prompted(source, {key: [given] if in_list else given}, scale))
    found = source.model.told[key]
    found = found[0] if in_list else found
    blocks = given.unflatten(-1, (-1, round(1 / scale))).unflatten(-3, (-1, round(1 / scale)))
    assert torch.allclose(found, blocks.mean((-1, -3)), atol=1e-6)
    if scale == 1.0:
        assert found is given


def test_pictures_among_the_references_are_left_to_the_host():
    """HiDream-O1 takes pictures [B, H, W, 3] there, and fits them to its state."""

    class Pixels(comfy.latent_formats.LatentFormat):
        latent_channels, spacial_downscale_ratio = 3, 1

    class OnPixels(comfy.supported_models.SD15):
        latent_format = Pixels

    picture = torch.rand(1, 24, 20, 3)
    source = model(1, family=OnPixels, base=Told, in_channels=3, out_channels=3)
    delta = prompted(source, {"reference_latents": [picture]}, 0.5)
    target = model(3, family=OnPixels, in_channels=3, out_channels=3)
    advanced_sampler(target, delta, latent_image={"samples": torch.zeros(1, 3, 32, 32)}, steps=1)
    assert source.model.told["reference_latents"][0] is picture


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_flux_sees_a_reference_of_the_size_that_it_has_beside_the_picture(scale):
    flux, found = target_of("Flux"), []
    source = shown(flux, lambda args: found.append(tuple(args["c"]["ref_latents"][0].shape)))
    reference = torch.randn(1, 16, 12, 8)
    positive = [[torch.zeros(1, 5, 16), {"pooled_output": torch.zeros(1, 16), "reference_latents": [reference]}]]
    plain = [[torch.zeros(1, 5, 16), {"pooled_output": torch.zeros(1, 16)}]]
    prompts = {f"{role}_positive": positive for role in ("source", "adapted")}
    prompts |= {f"{role}_negative": plain for role in ("source", "adapted")}
    delta = option("DeltaResolution", pair(source, source, cfg=1.0, **prompts), scale=scale)
    how = {"latent_image": {"samples": torch.zeros(1, 16, 16, 16)}, "positive": plain, "negative": plain, "steps": 1}
    advanced_sampler(flux, delta, cfg=1.0, **how)
    assert set(found) == {(1, 16, 12 * scale, 8 * scale)}


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_what_the_host_fits_to_the_state_is_left_to_it(base, scale):
    """Masks, shares of areas and a ControlNet's picture; the numbers of an SDXL prompt are no places."""
    hints, net = [], control()
    net.control_model.register_forward_pre_hook(
        lambda module, args, kwargs: hints.append(kwargs["hint"].clone()), with_kwargs=True
    )
    hint = torch.zeros(1, 128, 128, 3)
    hint[:, :64, 64:] = 1
    (controlled,) = node("ControlNetApply")().apply_controlnet(POSITIVE, net, hint, 1.0)
    sample(prompted(base, controlled[0][1], scale))
    expected = torch.zeros(1, 3, int(128 * scale), int(128 * scale))
    expected[:, :, : int(64 * scale), int(64 * scale) :] = 1
    assert hints and all(torch.equal(each, expected) for each in hints)

    masks = []
    mask = torch.zeros(1, 128, 128)
    mask[:, :64, 64:] = 1

    def look(args):
        masks.append([each["mask"] for each in args["conds"][0]])
        return comfy.samplers.calc_cond_batch(
            args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
        )

    source = base.clone()
    source.set_model_sampler_calc_cond_batch_function(look)
    sample(prompted(source, {"mask": mask, "mask_strength": 1.0}, scale))
    assert masks and torch.equal(masks[0][0], expected[:, 0, ::8, ::8])

    assert areas(base, {"area": ("percentage", 0.5, 0.25, 0.5, 0.75)}, scale) == {(8 * scale, 4 * scale)}

    told = model(1, base=Told)
    sizes = {"width": 1024, "height": 768, "crop_w": 8, "crop_h": 16, "target_width": 1024, "target_height": 768}
    sample(prompted(told, sizes, scale))
    assert {name: told.model.told[name] for name in sizes} == sizes


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_places_of_a_pair_inside_a_branch_are_of_the_targets_picture_too(base, scale):
    """The branch itself carries a delta, and sees the picture at half the size."""
    boxes, sizes = [], set()
    inner = model(2)
    area = {"area": (EDGE, 8, 0, 8)}
    both = combine(prompted(base, boxed(boxes)), prompted(inner, area))
    source = delta_model(model(4), both)
    with seen(inner, lambda x: sizes.add(tuple(x.shape[2:]))):
        sample(option("DeltaResolution", pair(source, source, cfg=1.0), scale=scale))
    assert boxes and all(torch.equal(each[0, 0], torch.tensor([0.5, 0, 1, 1])) for each in boxes)
    assert sizes == {(EDGE * scale, 8 * scale)}
