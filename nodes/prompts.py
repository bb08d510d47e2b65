"""DELTA from text: a pair whose prompts are encoded here, and a ControlNet on a pair's adapted prompts."""

from dataclasses import replace

import nodes as host_nodes
from comfy.controlnet import ControlBase
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..sampling.delta import Branch, Delta, Deltas, View
from ..sampling.host.latent_spaces import LatentSpace
from ..sampling.host.views import native_edge
from .inputs import (
    CATEGORY,
    ROLE_TOOLTIPS,
    DeltaType,
    cfg_input,
    delta_input,
    delta_output,
    percent_input,
    strength_input,
    with_finite_numbers,
)

AUTO, AS_THE_TARGET, AS_GIVEN = "auto", "as the target", "as given"


class DeltaPairText(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaPairText",
            display_name="Delta Pair (Prompts)",
            category=CATEGORY,
            description="A delta from models and text: encodes the prompts of source and adapted with the CLIP of "
            "each, and runs both at the size that they were made for. Give it to a Delta Model.",
            search_aliases=["delta sampling", "delta prompts", "adapter transfer"],
            inputs=[
                io.Model.Input("source_model", tooltip=ROLE_TOOLTIPS["source"]["model"]),
                io.Clip.Input("source_clip", tooltip="The CLIP that was loaded with the source model."),
                io.Model.Input("adapted_model", tooltip=ROLE_TOOLTIPS["adapted"]["model"]),
                io.Clip.Input(
                    "adapted_clip", tooltip="The CLIP that was loaded with the adapted model, or with its LoRA."
                ),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What the picture shows, in words that the old model knows.",
                ),
                io.String.Input(
                    "negative",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="The negative prompt, for both.",
                ),
                io.String.Input(
                    "trigger_words",
                    default="",
                    tooltip="Words that the adapter was trained with. They come first in the adapted model's prompt, "
                    "and in no other.",
                ),
                io.String.Input(
                    "source_prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="Another prompt for the source alone; empty: the same. With one model in both roles, the "
                    "delta is what your words change.",
                ),
                cfg_input(
                    "The guidance scale of source and adapted. 1.0 skips both negatives: four model calls per step "
                    "in place of six."
                ),
                strength_input("strength"),
                io.Combo.Input(
                    "pair_size",
                    options=[AUTO, AS_THE_TARGET, AS_GIVEN],
                    tooltip="The size of the picture that source and adapted see. Auto: what they were made for (512 "
                    "for SD1.x, 768 for SD2.x, 1024 for others) where the target's is larger; better and faster.",
                ),
                io.Int.Input(
                    "pixels",
                    default=512,
                    min=64,
                    max=16384,
                    step=8,
                    tooltip="For the pair size 'as given': at most so many pixels wide and high, or as many in another "
                    "format.",
                ),
                io.Clip.Input(
                    "target_clip",
                    optional=True,
                    tooltip="The target's CLIP, if its prompts are to be the same: they come out as positive and "
                    "negative.",
                ),
                DeltaType.Input("delta", optional=True, tooltip="Another delta to use together with this one."),
            ],
            outputs=[
                delta_output("This delta, after the one connected if any."),
                io.Conditioning.Output(display_name="positive", tooltip="The prompt, encoded by the target_clip."),
                io.Conditioning.Output(
                    display_name="negative", tooltip="The negative prompt, encoded by the target_clip."
                ),
            ],
        )

    @classmethod
    @with_finite_numbers
    def execute(
        cls,
        source_model: ModelPatcher,
        source_clip: CLIP,
        adapted_model: ModelPatcher,
        adapted_clip: CLIP,
        prompt: str,
        negative: str,
        trigger_words: str,
        source_prompt: str,
        cfg: float,
        strength: float,
        pair_size: str,
        pixels: int,
        target_clip: CLIP | None = None,
        delta: Deltas | None = None,
    ) -> io.NodeOutput:
        adapted_prompt = ", ".join(filter(None, [trigger_words.strip(), prompt]))
        source = Branch(source_model, *encoded(source_clip, source_prompt.strip() or prompt, negative), cfg)
        adapted = Branch(adapted_model, *encoded(adapted_clip, adapted_prompt, negative), cfg)
        sizes = {AUTO: native_edge(source_model), AS_THE_TARGET: None, AS_GIVEN: pixels}
        edge = sizes[pair_size] if LatentSpace.of(source_model).of_pictures else None
        own = Deltas((Delta(source, adapted, strength, View(edge=edge)),))
        for_target: tuple = encoded(target_clip, prompt, negative) if target_clip else (ExecutionBlocker(NO_CLIP),) * 2
        return io.NodeOutput(own if delta is None else delta.and_also(own), *for_target)


NO_CLIP = (
    "A Delta Pair (Prompts) gives prompts for the target only where its target_clip is connected. Connect the CLIP "
    "that was loaded with the target model, or encode the target's prompts with CLIP Text Encode."
)


def encoded(clip: CLIP, *texts: str) -> tuple[list, ...]:
    """Return the conditioning of each text, as the host's CLIP Text Encode makes it."""
    return tuple(host_nodes.CLIPTextEncode().encode(clip, text)[0] for text in texts)


class DeltaControlNet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaControlNet",
            display_name="Delta ControlNet",
            category=CATEGORY,
            description="Puts a ControlNet of the old model on a delta: on its adapted prompts, so that what the "
            "ControlNet does is carried to the target.",
            search_aliases=["delta sampling", "controlnet on another model", "sdxl controlnet"],
            inputs=[
                delta_input("From a Delta Pair; its source and adapted model may be one and the same."),
                io.ControlNet.Input("control_net", tooltip="A ControlNet of the source model, not of the target."),
                io.Image.Input("image", tooltip="What the ControlNet is shown: edges, a depth map, a pose."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="The strength of the ControlNet itself.",
                ),
                percent_input("start_percent", 0.0, "When the ControlNet begins."),
                percent_input("end_percent", 1.0, "When the ControlNet ends."),
                io.Vae.Input("vae", optional=True, tooltip="The source model's VAE, for ControlNets that need it."),
            ],
            outputs=[delta_output("The delta with the ControlNet.")],
        )

    @classmethod
    @with_finite_numbers
    def execute(
        cls,
        delta: Deltas,
        control_net: ControlBase,
        image: Tensor,
        strength: float,
        start_percent: float,
        end_percent: float,
        vae=None,
    ) -> io.NodeOutput:
        apply = host_nodes.ControlNetApplyAdvanced().apply_controlnet

        def controlled(given: Delta) -> Delta:
            if given.adapted is None:
                return given
            prompts = apply(*given.adapted.prompts, control_net, image, strength, start_percent, end_percent, vae)
            positive, negative = prompts
            return replace(given, adapted=replace(given.adapted, positive=positive, negative=negative))

        return io.NodeOutput(delta.each(controlled))
