"""DELTA from DELTA, how its pair sees the target: resolution, and a bridge between latents."""

from dataclasses import replace

from comfy_api.latest import io

from ..sampling.bridges import FunctionBridge, LinearBridge
from ..sampling.delta import Deltas, View
from .inputs import CATEGORY, BridgeType, delta_input, delta_output, with_finite_numbers

SAME_NOISE, SAME_DETAIL = "same noise", "same detail"


class DeltaResolution(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaResolution",
            display_name="Delta Resolution",
            category=CATEGORY,
            description="Runs source and adapted at a lower resolution than the target: an old model at the size it "
            "was made for, in a fraction of the time.",
            search_aliases=["delta sampling", "native resolution", "delta speed"],
            inputs=[
                delta_input(),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.25,
                    max=1.0,
                    step=0.05,
                    tooltip="Width and height of source and adapted relative to the target. 0.5 runs SD1.5 at 512 "
                    "beside SDXL at 1024, in about a quarter of the time. 1.0 changes nothing.",
                ),
                io.Combo.Input(
                    "noise_match",
                    options=[SAME_NOISE, SAME_DETAIL],
                    tooltip="How noisy the pair sees the picture. Same noise: as noisy as the target. Same detail: as "
                    "averaging and a bridge leave it, so that as much of the picture can be seen.",
                ),
            ],
            outputs=[delta_output("The delta at the new resolution.")],
        )

    @classmethod
    @with_finite_numbers
    def execute(cls, delta: Deltas, scale: float, noise_match: str) -> io.NodeOutput:
        same_detail = noise_match == SAME_DETAIL
        if scale == 1.0 and not same_detail:
            return io.NodeOutput(delta)

        def seen_at(view: View) -> View:
            return replace(view, scale=view.scale * scale, same_detail=same_detail)

        return io.NodeOutput(delta.each(lambda d: replace(d, view=seen_at(d.view))))


class DeltaBridge(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaBridge",
            display_name="Delta Bridge",
            category=CATEGORY,
            description="Leads a delta between models whose latents differ, such as SD1.5 and Flux.",
            search_aliases=["delta sampling", "latent bridge", "latent interposer"],
            inputs=[
                delta_input(),
                BridgeType.Input("bridge", tooltip="From a Latent Bridge Load, Fit, VAE or Interposer."),
            ],
            outputs=[delta_output("The delta with the bridge.")],
        )

    @classmethod
    def execute(cls, delta: Deltas, bridge: LinearBridge | FunctionBridge) -> io.NodeOutput:
        return io.NodeOutput(delta.each(lambda d: replace(d, view=replace(d.view, bridge=bridge))))
