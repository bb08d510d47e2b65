"""A target that carries deltas, as a MODEL for all that samples, and in ComfyUI's own KSampler nodes and guider."""

import comfy.samplers
import nodes as host_nodes
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..sampling.delta import Branch, Delta, Deltas
from ..sampling.host.run import with_deltas
from .inputs import (
    CATEGORY,
    cfg_input,
    delta_to_add,
    latent_input,
    role_inputs,
    sampler_inputs,
    seed_input,
    steps_input,
    strength_input,
    with_finite_numbers,
)
from .live import chart

# What people search for who need this pack. These two nodes alone have them all, so that they come first.
SEARCHED = [
    "delta sampling", "delta lora", "sdxl lora", "lora transfer", "lora on another model", "cross model",
    "transfer style", "convert lora", "port lora",
]  # fmt: skip


class DeltaModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaModel",
            display_name="Delta Model",
            category=CATEGORY,
            description="A model with deltas, for any sampler, guider, detailer or upscaler: whatever samples it, "
            "samples with them. Put it where a LoRA loader would be.",
            search_aliases=[*SEARCHED, "model patch"],
            inputs=[
                io.Model.Input("model", tooltip="The new model that makes the picture and receives the delta."),
                delta_to_add(),
            ],
            # Equal nodes do not share an output: each draws on the chart of its own.
            not_idempotent=True,
            outputs=[
                io.Model.Output(tooltip="The model with its deltas. LoRAs and patches may come before or behind.")
            ],
        )

    @classmethod
    def execute(cls, model: ModelPatcher, delta: Deltas) -> io.NodeOutput:
        return io.NodeOutput(with_deltas(model, delta, chart()))


class DeltaKSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaKSampler",
            display_name="Delta KSampler",
            category=CATEGORY,
            description="Samples the target model with what the adapted model does beyond the source model. Carries a "
            "LoRA, a fine-tune or a ControlNet of an old base model to a new one, without training.",
            search_aliases=[*SEARCHED, "LatentDeltaKSampler", "adapter transfer"],
            inputs=[
                *role_inputs("source", "source_"),
                *role_inputs("adapted", "adapted_"),
                *role_inputs("target", "target_"),
                strength_input("delta_strength"),
                seed_input("seed"),
                steps_input(),
                cfg_input("The guidance scale of all three models. 1.0 skips the negatives and halves the time."),
                *sampler_inputs(),
                latent_input(),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of the latent is made anew: 1.0 all of it, lower values keep more (img2img).",
                ),
            ],
            outputs=[io.Latent.Output(tooltip="The denoised latent, in the target model's latent space.")],
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
        target_model: ModelPatcher,
        target_positive: list,
        target_negative: list,
        delta_strength: float,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        latent_image: dict,
        denoise: float,
    ) -> io.NodeOutput:
        source = Branch(source_model, source_positive, source_negative, cfg)
        adapted = Branch(adapted_model, adapted_positive, adapted_negative, cfg)
        model = with_deltas(target_model, Deltas((Delta(source, adapted, delta_strength),)), chart())
        result = host_nodes.KSampler().sample(
            model, seed, steps, cfg, sampler_name, scheduler, target_positive, target_negative, latent_image, denoise
        )
        return io.NodeOutput(*result)


class DeltaKSamplerAdvanced(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaKSamplerAdvanced",
            display_name="Delta KSampler (Advanced)",
            category=CATEGORY,
            description="ComfyUI's KSampler (Advanced) with deltas: choose the steps to run and whether noise is added "
            "before and left after.",
            search_aliases=["delta sampling", "delta ksampler"],
            inputs=[
                *role_inputs("target"),
                delta_to_add(),
                io.Combo.Input(
                    "add_noise",
                    options=["enable", "disable"],
                    tooltip="Disable where an earlier sampler left its noise in the latent.",
                ),
                seed_input("noise_seed"),
                steps_input(),
                cfg_input("The guidance scale of the target model. The Delta Pair has its own."),
                *sampler_inputs(),
                latent_input(),
                io.Int.Input("start_at_step", default=0, min=0, max=10000, tooltip="The first step to run."),
                io.Int.Input("end_at_step", default=10000, min=0, max=10000, tooltip="The step to stop before."),
                io.Combo.Input(
                    "return_with_leftover_noise",
                    options=["disable", "enable"],
                    tooltip="Enable to stop at end_at_step with the noise of that step, for a sampler that goes on.",
                ),
            ],
            outputs=[io.Latent.Output(tooltip="The denoised latent, in the model's latent space.")],
        )

    @classmethod
    @with_finite_numbers
    def execute(
        cls,
        model: ModelPatcher,
        positive: list,
        negative: list,
        delta: Deltas,
        add_noise: str,
        noise_seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        latent_image: dict,
        start_at_step: int,
        end_at_step: int,
        return_with_leftover_noise: str,
    ) -> io.NodeOutput:
        result = host_nodes.KSamplerAdvanced().sample(
            with_deltas(model, delta, chart()),
            add_noise,
            noise_seed,
            steps,
            cfg,
            sampler_name,
            scheduler,
            positive,
            negative,
            latent_image,
            start_at_step,
            end_at_step,
            return_with_leftover_noise,
        )
        return io.NodeOutput(*result)


class DeltaGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaGuider",
            display_name="Delta Guider",
            category=CATEGORY,
            description="A CFG guider that adds deltas to the model's predictions. For SamplerCustomAdvanced.",
            search_aliases=["delta sampling", "cfg guider"],
            inputs=[
                *role_inputs("target"),
                cfg_input("The guidance scale of the target model. The Delta Pair has its own."),
                delta_to_add(),
            ],
            # Equal guiders are not shared between nodes: each draws on the chart of its own.
            not_idempotent=True,
            outputs=[io.Guider.Output(tooltip="The guider, for SamplerCustomAdvanced.")],
        )

    @classmethod
    @with_finite_numbers
    def execute(cls, model: ModelPatcher, positive: list, negative: list, cfg: float, delta: Deltas) -> io.NodeOutput:
        guider = comfy.samplers.CFGGuider(with_deltas(model, delta, chart()))
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        return io.NodeOutput(guider)
