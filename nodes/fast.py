"""The preset that keeps most of a delta for a small part of its price."""

from dataclasses import replace

from comfy_api.latest import io

from ..sampling.delta import Delta
from ..sampling.reuse import Reuse
from ..sampling.schedule import Schedule
from .inputs import CATEGORY
from .options import delta_input, delta_output

# Chosen on the lab's models, see benchmarks/options.md. In the first steps there is nothing but noise yet.
REUSE, WINDOW = Reuse(every=6, extrapolate=True), Schedule(start_percent=0.04)
OFF, KEPT = "off", "kept"


class DeltaFast(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaFast",
            display_name="Delta Fast",
            category=CATEGORY,
            description="A preset: evaluates the delta every sixth step, after the first noise, and follows its trend "
            "in between, with the pair's guidance off. About 1.2 times the cost of the plain target in place of 3.",
            search_aliases=["delta sampling", "fast preset", "delta speed"],
            inputs=[
                delta_input(),
                io.Combo.Input(
                    "pair_guidance",
                    options=[OFF, KEPT],
                    tooltip="off sets the pair's cfg to 1, which skips its negatives. kept leaves its cfg as it is: "
                    "closer to the full method, at about 1.35 times the plain target.",
                ),
            ],
            outputs=[delta_output()],
        )

    @classmethod
    def execute(cls, delta, pair_guidance) -> io.NodeOutput:
        return io.NodeOutput(tuple(fast(d, pair_guidance == KEPT) for d in delta))


def fast(delta: Delta, keep_guidance: bool) -> Delta:
    """Return `delta` evaluated rarely, and without guidance of its pair unless `keep_guidance`.

    Beside the target's own prediction, which is guided, the source stays guided too.
    """
    if delta.adapted is not None and not keep_guidance:
        source, adapted = (replace(branch, cfg=1.0) for branch in (delta.source, delta.adapted))
        delta = replace(delta, source=source, adapted=adapted)
    return replace(delta, reuse=REUSE, schedules=(*delta.schedules, WINDOW))
