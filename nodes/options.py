"""DELTA from DELTA, when and how much: schedule, mask, limits, reuse, a fast preset, and several together."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..sampling.delta import Delta, Deltas
from ..sampling.errors import require_mask
from ..sampling.fast import AUTO, KEPT, OFF, fast
from ..sampling.limits import BANDS, Limits
from ..sampling.reuse import Reuse
from ..sampling.schedule import CURVES, Schedule
from .inputs import (
    CATEGORY,
    DeltaType,
    delta_input,
    delta_output,
    percent_input,
    strength_input,
    window_problem,
    with_finite_numbers,
)


def changed(deltas: Deltas, setting: Any, change: Callable[[Delta], Delta]) -> io.NodeOutput:
    """Return the output of an option node: `deltas` themselves where its `setting` changes nothing."""
    return io.NodeOutput(deltas if setting.changes_nothing else deltas.each(change))


class DeltaSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaSchedule",
            display_name="Delta Schedule",
            category=CATEGORY,
            description="When a delta acts, and how strongly over the run. Outside its window source and adapted are "
            "not evaluated, which saves their time.",
            search_aliases=["delta sampling", "delta strength", "delta window", "strength curve"],
            inputs=[
                delta_input(),
                percent_input(
                    "start_percent",
                    0.0,
                    "Where in the run the delta begins: 0 is the start, at pure noise. As for a ControlNet.",
                ),
                percent_input(
                    "end_percent",
                    1.0,
                    "Where in the run the delta ends: 1 is the end. Shapes and colours are settled early.",
                ),
                io.Combo.Input(
                    "curve",
                    options=list(CURVES),
                    tooltip="How the strength goes from strength_start to strength_end between the two. constant stays "
                    "at strength_start.",
                ),
                strength_input("strength_start", "A factor on the delta's strength at the beginning of the window."),
                strength_input("strength_end", "A factor on the delta's strength at the end of the window."),
            ],
            outputs=[delta_output()],
        )

    @classmethod
    def validate_inputs(cls, start_percent: float | None, end_percent: float | None) -> bool | str:
        return window_problem(start_percent, end_percent) or True

    @classmethod
    @with_finite_numbers
    def execute(cls, delta: Deltas, **settings: Any) -> io.NodeOutput:
        schedule = Schedule(**settings)
        return changed(delta, schedule, lambda d: replace(d, schedules=(*d.schedules, schedule)))


class DeltaMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaMask",
            display_name="Delta Mask",
            category=CATEGORY,
            description="Where in the picture a delta acts: fully where the mask is white, not where it is black.",
            search_aliases=["delta sampling", "regional lora", "delta region"],
            inputs=[
                delta_input(),
                io.Mask.Input(
                    "mask", tooltip="Any size, soft edges too. One mask for all pictures, or one for each of the batch."
                ),
            ],
            outputs=[delta_output()],
        )

    @classmethod
    def execute(cls, delta: Deltas, mask: Tensor) -> io.NodeOutput:
        require_mask(mask)
        return io.NodeOutput(delta.each(lambda d: replace(d, masks=(*d.masks, mask))))


class DeltaLimits(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaLimits",
            display_name="Delta Limits",
            category=CATEGORY,
            description="What of a delta is let through, against harsh colours and contrast at high strength, or to "
            "carry only structure or only texture.",
            search_aliases=["delta sampling", "projected guidance", "APG", "oversaturation", "delta texture"],
            inputs=[
                delta_input(),
                io.Float.Input(
                    "parallel",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much is kept of the delta's part along the target's own prediction. That part only "
                    "adds contrast and saturation: lower it where a strong delta burns colours.",
                ),
                io.Float.Input(
                    "norm_limit",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="The largest size of the delta relative to the target's prediction. 0 is no limit.",
                ),
                io.Combo.Input(
                    "band",
                    options=list(BANDS),
                    tooltip="low carries structure and colour only, high texture and lines only.",
                ),
                io.Float.Input(
                    "cutoff",
                    default=0.25,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Where low ends and high begins, as a share of the finest detail of the latent.",
                ),
            ],
            outputs=[delta_output()],
        )

    @classmethod
    @with_finite_numbers
    def execute(cls, delta: Deltas, **settings: Any) -> io.NodeOutput:
        limits = Limits(**settings)
        return changed(delta, limits, lambda d: replace(d, limits=(*d.limits, limits)))


class DeltaReuse(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaReuse",
            display_name="Delta Reuse",
            category=CATEGORY,
            description="Evaluates a delta only now and then and keeps it in between. The steps between cost no more "
            "than the plain target.",
            search_aliases=["delta sampling", "delta speed", "teacache", "delta cache"],
            inputs=[
                delta_input(),
                io.Int.Input(
                    "every",
                    default=1,
                    min=1,
                    max=100,
                    tooltip="Evaluate every so many steps. 1 is every step.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="Evaluate when the target's prediction has changed by this much since the last time (0.1 "
                    "is a tenth). 0 is off. With every above 1, whichever comes first.",
                ),
                io.Boolean.Input(
                    "extrapolate",
                    default=False,
                    tooltip="Between evaluations follow the trend of the last two rather than keep the last.",
                ),
            ],
            outputs=[delta_output()],
        )

    @classmethod
    @with_finite_numbers
    def execute(cls, delta: Deltas, **settings: Any) -> io.NodeOutput:
        reuse = Reuse(**settings)
        return changed(delta, reuse, lambda d: replace(d, reuse=reuse))


class DeltaFast(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaFast",
            display_name="Delta Fast",
            category=CATEGORY,
            description="A preset for speed: evaluates source and adapted in about four steps of a run. In between it "
            "scales the delta down as the noise decreases, or keeps it over a lossy bridge.",
            search_aliases=["delta sampling", "fast preset", "delta speed"],
            inputs=[
                delta_input(),
                io.Combo.Input(
                    "pair_guidance",
                    options=[OFF, KEPT, AUTO],
                    default=AUTO,
                    tooltip="auto applies the pair's cfg at medium noise only (noise-to-signal ratio 2.5 to 6), and "
                    "always over a lossy bridge. off sets the pair's cfg to 1.0, which skips its negatives. kept "
                    "always applies the pair's cfg.",
                ),
            ],
            outputs=[delta_output()],
        )

    @classmethod
    def execute(cls, delta: Deltas, pair_guidance: str) -> io.NodeOutput:
        return io.NodeOutput(delta.each(lambda d: fast(d, pair_guidance)))


class DeltaCombine(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaCombine",
            display_name="Delta Combine",
            category=CATEGORY,
            description="Two deltas together, each with its own strength, schedule, mask and bridge. Chain it.",
            search_aliases=["delta sampling", "several loras", "merge deltas"],
            inputs=[
                DeltaType.Input("delta_a", tooltip="A delta, or several."),
                DeltaType.Input("delta_b", tooltip="The deltas to use with it."),
            ],
            outputs=[delta_output("All of them. Branches that they share run once.")],
        )

    @classmethod
    def execute(cls, delta_a: Deltas, delta_b: Deltas) -> io.NodeOutput:
        return io.NodeOutput(delta_a.and_also(delta_b))
