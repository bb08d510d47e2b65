"""Bridges between latent spaces: made and kept."""

from collections.abc import Sequence
from typing import Any

import nodes as host_nodes
from comfy_api.latest import io
from torch import Tensor

from ..sampling.bridge_fit import Fit, fit_bridge
from ..sampling.bridges import Bridge
from ..sampling.host import bridge_files
from ..sampling.host.interposer_bridge import LATENTS, interposer_bridge
from ..sampling.host.vae_bridge import LONGEST_EDGE, VAEBridge, encode_pairs, latent_shape
from ..sampling.made_pictures import made_pictures
from .inputs import CATEGORY, BridgeType, with_finite_numbers

MADE, FOR_NOISE = 48, 12  # so many pictures are made for a fit; for the noise of a bridge through pixels
MADE_EDGE = 64  # of a picture that is made, in pixels of the coarser latents


def vae_inputs() -> list[io.Input]:
    return [
        io.Vae.Input("source_vae", tooltip="The VAE of the source model, the old base."),
        io.Vae.Input("target_vae", tooltip="The VAE of the target model, the new base."),
    ]


def fitted(
    source_vae: Any, target_vae: Any, count: int, images: Sequence[Tensor] | None = None, scale: float = 1.0
) -> Fit:
    """Return the bridge fitted to `images`, or to `count` pictures that are made."""
    shapes = latent_shape(source_vae, scale), latent_shape(target_vae)
    size = min(LONGEST_EDGE, MADE_EDGE * max(shape.downscale for shape in shapes))
    pictures = images or made_pictures(count, size).split(1)
    return fit_bridge(encode_pairs(pictures, source_vae, target_vae, scale), *shapes)


class LatentBridgeFit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentBridgeFit",
            display_name="Latent Bridge Fit",
            category=CATEGORY,
            description="Fits a bridge between the latents of two VAEs to pictures, by least squares: to yours, or to "
            "some that it makes itself.",
            search_aliases=["delta sampling", "latent interposer", "fit latent bridge"],
            # Pictures of a folder come as a list, each of its own size.
            is_input_list=True,
            inputs=[
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Pictures of all kinds: a batch, or a list as Load Image (from Folder) gives it. Without "
                    "any it makes 48 of its own.",
                ),
                *vae_inputs(),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.25,
                    max=1.0,
                    step=0.05,
                    tooltip="The scale of the Delta Resolution that the pair has: 0.5 for SD1.5 at 512 beside SDXL at "
                    "1024. The bridge then leads to the smaller latents by itself, and keeps more.",
                ),
            ],
            outputs=[
                BridgeType.Output(display_name="bridge", tooltip="For a Delta Bridge or a Latent Bridge Save."),
                io.String.Output(
                    display_name="report", tooltip="How well the fit explains each channel (R2, 1 is best)."
                ),
            ],
        )

    @classmethod
    @with_finite_numbers
    def execute(
        cls, source_vae: list, target_vae: list, images: list[Tensor] | None = None, scale: Sequence[float] = (1.0,)
    ) -> io.NodeOutput:
        fit = fitted(source_vae[0], target_vae[0], MADE, images, scale[0])
        return io.NodeOutput(fit.bridge, fit.report(), ui={"text": (fit.report(),)})


class LatentBridgeVAE(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentBridgeVAE",
            display_name="Latent Bridge VAE",
            category=CATEGORY,
            description="A bridge through pixels: decodes with one VAE and encodes with the other, three times a model "
            "call. As exact as the VAEs are; fast with tiny autoencoders (taesd, taesdxl, taesd3, taef1).",
            search_aliases=["delta sampling", "latent bridge", "pixel bridge"],
            inputs=[
                *vae_inputs(),
            ],
            outputs=[BridgeType.Output(display_name="bridge", tooltip="For a Delta Bridge.")],
        )

    @classmethod
    def execute(cls, source_vae: Any, target_vae: Any) -> io.NodeOutput:
        return io.NodeOutput(
            VAEBridge.of(source_vae, target_vae, fitted(source_vae, target_vae, FOR_NOISE).bridge.noise_map)
        )


class LatentBridgeInterposer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentBridgeInterposer",
            display_name="Latent Bridge Interposer",
            category=CATEGORY,
            description="A bridge over the networks of the pack SD-Latent-Interposer, which has to be installed: no "
            "VAE and no fit are needed. They run on the CPU, three times a model call.",
            search_aliases=["delta sampling", "latent bridge", "latent interposer"],
            inputs=[
                io.Combo.Input("source_latents", list(LATENTS), tooltip="The latents of the source model."),
                io.Combo.Input(
                    "target_latents", list(LATENTS), default="SDXL", tooltip="The latents of the target model."
                ),
            ],
            outputs=[BridgeType.Output(display_name="bridge", tooltip="For a Delta Bridge.")],
        )

    @classmethod
    def execute(cls, source_latents: str, target_latents: str) -> io.NodeOutput:
        interposer = host_nodes.NODE_CLASS_MAPPINGS.get("LatentInterposer")
        return io.NodeOutput(interposer_bridge(interposer, source_latents, target_latents))


class LatentBridgeSave(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentBridgeSave",
            display_name="Latent Bridge Save",
            category=CATEGORY,
            description="Saves a fitted bridge in the folder models/latent_bridges.",
            search_aliases=["delta sampling", "latent bridge"],
            is_output_node=True,
            inputs=[
                BridgeType.Input("bridge", tooltip="The bridge to save, from a Latent Bridge Fit."),
                io.String.Input(
                    "filename_prefix",
                    default="source_to_target",
                    tooltip="The name, a folder before it if you like: sd15/to_flux. A number follows it.",
                ),
            ],
            outputs=[BridgeType.Output(display_name="bridge", tooltip="The same bridge.")],
        )

    @classmethod
    def execute(cls, bridge: Bridge, filename_prefix: str) -> io.NodeOutput:
        name = bridge_files.save(bridge, filename_prefix)
        return io.NodeOutput(bridge, ui={"text": (f"Saved as {name}",)})


class LatentBridgeLoad(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentBridgeLoad",
            display_name="Latent Bridge Load",
            category=CATEGORY,
            description="Loads a bridge from the folder models/latent_bridges.",
            search_aliases=["delta sampling", "latent bridge"],
            inputs=[
                io.Combo.Input(
                    "bridge_name", options=bridge_files.names(), tooltip="A file that a Latent Bridge Save has written."
                )
            ],
            outputs=[BridgeType.Output(display_name="bridge", tooltip="For a Delta Bridge.")],
        )

    @classmethod
    def fingerprint_inputs(cls, bridge_name: str) -> float:
        return bridge_files.modified(bridge_name)

    @classmethod
    def execute(cls, bridge_name: str) -> io.NodeOutput:
        return io.NodeOutput(bridge_files.load(bridge_name))
