"""DELTA from models: a pair whose difference it is, and a weaker version of the target."""

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..sampling.delta import Branch, Delta, Deltas
from .inputs import CATEGORY, DeltaType, cfg_input, delta_output, role_inputs, strength_input, with_finite_numbers


class DeltaPair(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaPair",
            display_name="Delta Pair",
            category=CATEGORY,
            description="A delta: what the adapted model predicts beyond the source model. Give it to a Delta "
            "Model, a Delta Guider or a Delta KSampler (Advanced).",
            search_aliases=["delta sampling", "adapter transfer"],
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
    @with_finite_numbers
    def execute(
        cls,
        source_model: ModelPatcher,
        source_positive: list,
        source_negative: list,
        adapted_model: ModelPatcher,
        adapted_positive: list,
        adapted_negative: list,
        cfg: float,
        strength: float,
        delta: Deltas | None = None,
    ) -> io.NodeOutput:
        source = Branch(source_model, source_positive, source_negative, cfg)
        adapted = Branch(adapted_model, adapted_positive, adapted_negative, cfg)
        own = Deltas((Delta(source, adapted, strength),))
        return io.NodeOutput(own if delta is None else delta.and_also(own))


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
                io.Conditioning.Input("negative", tooltip="The negative prompt, encoded by the weak model's own CLIP."),
                cfg_input("The guidance scale of the weak model. Use the target's, or 1.0 on both."),
                strength_input(
                    "strength",
                    "How far the target is pushed away from the weak model. Start at 0.5; 0 is no guidance at no cost.",
                ),
            ],
            outputs=[delta_output("For a Delta Model, Delta Guider or Delta KSampler (Advanced).")],
        )

    @classmethod
    @with_finite_numbers
    def execute(
        cls, weak_model: ModelPatcher, positive: list, negative: list, cfg: float, strength: float
    ) -> io.NodeOutput:
        return io.NodeOutput(Deltas((Delta(Branch(weak_model, positive, negative, cfg), None, strength),)))
