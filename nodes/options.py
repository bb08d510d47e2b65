"""Options of a delta: each takes a DELTA and returns a changed copy. Their defaults change nothing."""

from dataclasses import replace

from comfy_api.latest import io

from ..sampling.checks import require_mask
from ..sampling.limits import BANDS, Limits
from ..sampling.reuse import Reuse
from ..sampling.schedule import CURVES, Schedule
from .inputs import CATEGORY, delta_input, delta_output, strength_input


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
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Where in the run the delta begins: 0 is the start, at pure noise. As for a ControlNet.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Where in the run the delta ends: 1 is the end. Shapes and colours are settled early.",
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
    def validate_inputs(cls, start_percent, end_percent) -> bool | str:
        # What is connected has no value yet.
        if None not in (start_percent, end_percent) and start_percent > end_percent:
            return (
                f"start_percent is {start_percent} and end_percent {end_percent}, so the delta would never act. Set "
                "start_percent to at most end_percent."
            )
        return True

    @classmethod
    def execute(cls, delta, **settings) -> io.NodeOutput:
        schedule = Schedule(**settings)
        if schedule == Schedule(curve=schedule.curve):
            return io.NodeOutput(delta)
        return io.NodeOutput(tuple(replace(d, schedules=(*d.schedules, schedule)) for d in delta))


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
    def execute(cls, delta, mask) -> io.NodeOutput:
        require_mask(mask)
        return io.NodeOutput(tuple(replace(d, masks=(*d.masks, mask)) for d in delta))


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
    def execute(cls, delta, **settings) -> io.NodeOutput:
        limits = Limits(**settings)
        if limits == Limits(cutoff=limits.cutoff):
            return io.NodeOutput(delta)
        return io.NodeOutput(tuple(replace(d, limits=(*d.limits, limits)) for d in delta))


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
    def execute(cls, delta, **settings) -> io.NodeOutput:
        reuse = Reuse(**settings)
        if reuse == Reuse(extrapolate=reuse.extrapolate):
            return io.NodeOutput(delta)
        return io.NodeOutput(tuple(replace(d, reuse=reuse) for d in delta))
