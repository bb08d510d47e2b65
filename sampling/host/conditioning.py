"""The places in a branch's conditioning, where it sees the picture at another size or in other latents than the target.

Users give them for the target's picture, and there they stay. What the host's keys need (`comfy.samplers`,
`comfy.model_base`):

- `area`, and the boxes of `gligen`: are counted in blocks of 8 pixels, and become cells of the branch's latents.
- `mask` with `set_area_to_bounds`: its box has at least 8 cells, so it is found at full size and is an area from there.
- LATENTS: are resized as the state is. Some are laid over the state and have to fit it, some lie beside it with
  coordinates of their own, where twice the size is another place. They are the branch's own: at full size they stay.
- The host fits to the state by itself: shares of an area ("percentage"), `mask`, `concat_mask`, `concat_image`,
  `stable_cascade_prior`, `lq_latent`, `attention_mask_img_shape`, and what a `control` is shown.
- Numbers of the prompt, which a model was trained with, and no places: `width`, `height`, `crop_w`, `crop_h`,
  `target_width`, `target_height`.
- Places in the run, or none: `start_percent`, `end_percent`, `clip_start_percent`, `clip_end_percent`, `hooks`,
  `strength`, `mask_strength`, `noise_augmentation`, `unclip_conditioning`, `clip_vision_output`, `guidance`.
- Of several frames, which no branch sees at another size: `guiding_frame_index`, `keyframe_idxs`,
  `guide_attention_entries`, `camera_conditions`, `face_video_pixels`, `driving_mask_28ch`, `ref_mask_28ch`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.samplers
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..delta import Branch
from ..resize import box_filter
from ..state_mapping import StateMapping
from .latent_spaces import LatentSpace
from .run_input import RunInput, scale_of_picture

BLOCK = 8  # pixels

# Tensors [B, C, ..., H, W], or lists of them, that are as large as the picture at full size, in cells of its latents.
LATENTS = (
    "concat_latent_image",
    "condition",
    "context_latents",
    "control_video",
    "pose_video_latent",
    "ref_latent",
    "reference_latents",
    "reference_motion",
    "time_dim_concat",
    "time_dim_replace",
    "vace_frames",
    "vace_mask",
)


def placed(branch: Branch, target: ModelPatcher, run: RunInput, mapping: StateMapping) -> Branch:
    """Return `branch` with the places in its conditioning in what `mapping` shows it of the state."""
    maps = mapping.maps_for(run.noise)
    if maps is None and run.scale == (1.0, 1.0):
        return branch
    noise = run.noise if maps is None else maps.noise_to_source(run.noise)
    height, width = noise.shape[-2:]
    downscale = LatentSpace.of(branch.model).shape.downscale
    grid = Grid((height, width), scale_of_picture(target, branch.model, run, noise), BLOCK / downscale)

    def placed_in(conditioning: list) -> list:
        return [[embedding, grid.placed(options)] for embedding, options in conditioning]

    return replace(branch, positive=placed_in(branch.positive), negative=placed_in(branch.negative))


@dataclass(frozen=True)
class Grid:
    """The latents of `size` [H, W] that a branch sees: `scale` times the full size, where a block has `block` cells."""

    size: tuple[int, int]
    scale: tuple[float, float]
    block: float

    def placed(self, options: dict) -> dict:
        """Return the options of a prompt with their places in these latents."""
        changed = {key: self.resized(options[key]) for key in LATENTS if key in options}
        area = options.get("area")
        if options.get("set_area_to_bounds") and "mask" in options:
            changed |= {"area": self.area(self.bounds(options), 1.0), "set_area_to_bounds": False}
        elif area is not None and len(area) == 4:
            changed["area"] = self.area(area, self.block)
        if options.get("gligen", [None])[0] == "position":
            kind, model, boxes = options["gligen"]
            changed["gligen"] = kind, model, [self.box(*each) for each in boxes]
        return {**options, **changed}

    def box(self, embedding: Tensor, *blocks: int) -> tuple[Any, ...]:
        """Return what is to be in a box (height, width, y, x), and the box in cells, which need not be whole."""
        cells = (part * self.block * scale for part, scale in zip(blocks, self.scale * 2, strict=True))
        return embedding, *cells

    def area(self, area: Sequence[int], unit: float) -> tuple[int, ...]:
        """Return an area (height, width, y, x), counted in `unit` cells at full size, as one of whole cells.

        Areas that meet still do, and none is empty.
        """
        lengths, starts = [], []
        for length, start, edge, scale in zip(area[:2], area[2:], self.size, self.scale, strict=True):
            first = min(round(start * unit * scale), edge - 1)
            starts.append(first)
            lengths.append(max(1, round((start + length) * unit * scale) - first))
        return (*lengths, *starts)

    def bounds(self, options: dict) -> tuple[int, ...]:
        """Return the area that the host finds for a mask at full size, in cells."""
        full = tuple(round(edge / scale) for edge, scale in zip(self.size, self.scale, strict=True))
        found = [{key: options[key] for key in ("mask", "set_area_to_bounds")}]
        comfy.samplers.resolve_areas_and_cond_masks_multidim(found, full, options["mask"].device)
        return found[0]["area"]

    def resized(self, latents: Any) -> Any:
        """Return tensors of LATENTS at the scale of these latents."""
        if isinstance(latents, (list, tuple)):
            return [self.resized(each) for each in latents]
        # HiDream-O1's references are pictures [B, H, W, 3], which the host fits to the state.
        if not isinstance(latents, Tensor) or latents.shape[-1] == 3:
            return latents
        large = latents.shape[-2:]
        small = [max(1, round(edge * scale)) for edge, scale in zip(large, self.scale, strict=True)]
        if small == list(large):
            return latents
        rows, columns = (box_filter(*sizes).float().to(latents) for sizes in zip(small, large, strict=True))
        return rows @ latents @ columns.T
