"""The pair whose difference is the delta."""

from comfy_api.latest import io

from ..sampling.delta import Branch, Delta
from .inputs import CATEGORY, DeltaType, cfg_input, delta_output, role_inputs, strength_input


class DeltaPair(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaPair",
            display_name="Delta Pair",
            category=CATEGORY,
            description="A delta: what the adapted model predicts beyond the source model. Give it to a Delta Guider "
            "or a Delta KSampler (Advanced).",
            search_aliases=["delta sampling", "lora transfer", "adapter transfer"],
            inputs=[
                *role_inputs("source", "source_"),
                *role_inputs("adapted", "adapted_"),
                cfg_input(
                    "The guidance scale of source and adapted. 1.0 skips both negatives: four model calls per step "
                    "in place of six."
                ),
                strength_input("strength"),
                DeltaType.Input(
                    "delta", optional=True, tooltip="Another delta to use together with this one, from a Delta Pair."
                ),
            ],
            outputs=[delta_output("This delta, after the one connected if any.")],
        )

    @classmethod
    def execute(
        cls,
        source_model,
        source_positive,
        source_negative,
        adapted_model,
        adapted_positive,
        adapted_negative,
        cfg,
        strength,
        delta=(),
    ) -> io.NodeOutput:
        source = Branch(source_model, source_positive, source_negative, cfg)
        adapted = Branch(adapted_model, adapted_positive, adapted_negative, cfg)
        return io.NodeOutput((*delta, Delta(source, adapted, strength)))
