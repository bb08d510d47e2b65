"""MODEL from MODEL: guidance of what is sampled, with or without deltas."""

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..sampling.host.colour_guidance import with_colour_guidance
from .inputs import CATEGORY, percent_input, window_problem, with_finite_numbers


class DeltaColorGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaColorGuidance",
            display_name="Delta Color Guidance",
            category=CATEGORY,
            description="Gives what is sampled the colours of a picture, while it is sampled (SW-Guidance, arXiv "
            "2503.19034). For any model, with deltas or without.",
            search_aliases=["delta sampling", "color match", "color transfer", "palette", "sw-guidance"],
            inputs=[
                io.Model.Input("model", tooltip="The model that makes the picture. Deltas may come before or behind."),
                io.Image.Input(
                    "reference",
                    tooltip="The picture whose colours are wanted: one for all, or one for each picture of the batch.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="The share of the way to the reference's colours at each call. 1 goes all the way, 0 is "
                    "off at no cost.",
                ),
                percent_input("start_percent", 0.2, "When the guidance begins. Later keeps more of the shapes."),
                percent_input("end_percent", 0.8, "When the guidance ends. Later comes nearer to the colours."),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The model's VAE: encodes the reference once, so that its colours are read more exactly.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with the guidance, for any sampler.")],
        )

    @classmethod
    def validate_inputs(cls, start_percent: float | None, end_percent: float | None) -> bool | str:
        return window_problem(start_percent, end_percent) or True

    @classmethod
    @with_finite_numbers
    def execute(
        cls,
        model: ModelPatcher,
        reference: Tensor,
        strength: float,
        start_percent: float,
        end_percent: float,
        vae=None,
    ) -> io.NodeOutput:
        return io.NodeOutput(with_colour_guidance(model, reference, vae, strength, start_percent, end_percent))
