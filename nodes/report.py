"""What the deltas did in a run, as a picture."""

from comfy_api.latest import io

from ..sampling.delta import Deltas
from ..sampling.host.run import last_traces
from .drawing import draw
from .inputs import CATEGORY, delta_input


class DeltaReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaReport",
            display_name="Delta Report",
            category=CATEGORY,
            description="Draws what the deltas did in a run: their size at each step, their angle to the target's "
            "prediction, which calls were evaluated or reused, and where in the picture they acted.",
            search_aliases=["delta sampling", "delta plot", "delta heat map"],
            inputs=[
                delta_input("The same delta that goes to the sampler."),
                io.Latent.Input("samples", tooltip="The sampler's output, so that the report comes after the run."),
            ],
            outputs=[io.Image.Output(display_name="report", tooltip="The report. Show it with Preview Image.")],
        )

    @classmethod
    def execute(cls, delta: Deltas, samples: dict) -> io.NodeOutput:
        return io.NodeOutput(draw(last_traces(delta)))
