"""Several deltas together, and a delta made of the target itself."""

from comfy_api.latest import io

from ..sampling.delta import Branch, Delta
from .inputs import CATEGORY, DeltaType, cfg_input, delta_output, strength_input


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
    def execute(cls, delta_a, delta_b) -> io.NodeOutput:
        return io.NodeOutput((*delta_a, *delta_b))


class DeltaAutoguidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaAutoguidance",
            display_name="Delta Autoguidance",
            category=CATEGORY,
            description="Guides the target away from a weaker version of itself (arXiv 2406.02507): what the target "
            "predicts beyond the weak model is added once more.",
            search_aliases=["delta sampling", "autoguidance", "bad version of itself"],
            inputs=[
                io.Model.Input(
                    "weak_model",
                    tooltip="A weaker version of the target: smaller, trained less, older, or quantised hard.",
                ),
                io.Conditioning.Input("positive", tooltip="The prompt, encoded by the weak model's own CLIP."),
                io.Conditioning.Input("negative", tooltip="What to avoid, encoded by the weak model's own CLIP."),
                cfg_input("The guidance scale of the weak model. Use the target's, or 1.0 on both."),
                strength_input(
                    "strength",
                    "How far the target is pushed away from the weak model. Start at 0.5; 0 is no guidance at no cost.",
                ),
            ],
            outputs=[delta_output("For a Delta Guider or Delta KSampler (Advanced).")],
        )

    @classmethod
    def execute(cls, weak_model, positive, negative, cfg, strength) -> io.NodeOutput:
        return io.NodeOutput((Delta(Branch(weak_model, positive, negative, cfg), None, strength),))
