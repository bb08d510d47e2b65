"""The samplers: ComfyUI's own KSampler nodes, run on a target that carries deltas."""

import nodes as host_nodes
from comfy_api.latest import io

from ..sampling.delta import Branch, Delta
from ..sampling.host.transfer import with_deltas
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
)
from .live import chart


class DeltaKSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaKSampler",
            display_name="Delta KSampler",
            category=CATEGORY,
            description="Samples the target model with what the adapted model does beyond the source model. Carries a "
            "LoRA, a fine-tune or a ControlNet of an old base model to a new one, without training.",
            search_aliases=["delta sampling", "LatentDeltaKSampler", "lora transfer", "adapter transfer"],
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
    def execute(
        cls,
        source_model,
        source_positive,
        source_negative,
        adapted_model,
        adapted_positive,
        adapted_negative,
        target_model,
        target_positive,
        target_negative,
        delta_strength,
        seed,
        steps,
        cfg,
        sampler_name,
        scheduler,
        latent_image,
        denoise,
    ) -> io.NodeOutput:
        source = Branch(source_model, source_positive, source_negative, cfg)
        adapted = Branch(adapted_model, adapted_positive, adapted_negative, cfg)
        model = with_deltas(target_model, (Delta(source, adapted, delta_strength),), chart())
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
            search_aliases=["delta sampling", "delta ksampler", "lora transfer"],
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
    def execute(
        cls,
        model,
        positive,
        negative,
        delta,
        add_noise,
        noise_seed,
        steps,
        cfg,
        sampler_name,
        scheduler,
        latent_image,
        start_at_step,
        end_at_step,
        return_with_leftover_noise,
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
