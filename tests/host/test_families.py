"""What people run today as targets of an SD1.5 pair: small models of the host's own classes, with a bridge."""

import comfy.latent_formats
import comfy.model_sampling
import comfy.supported_models as families
import pytest
import torch
from comfy.model_patcher import ModelPatcher

from harness.nodes import node

from .tiny import CPU, bridge, delta_model, ksampler, pair, randomise, relative_error

FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 16, "context_in_dim": 16,
    "hidden_size": 32, "mlp_ratio": 2.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [4, 6, 6],
    "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip
FLUX_2 = FLUX | {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "vec_in_dim": None, "patch_size": 1,
    "axes_dim": [4, 4, 4, 4], "qkv_bias": False, "guidance_embed": False, "txt_ids_dims": [3],
    "global_modulation": True, "mlp_silu_act": True, "ops_bias": False,
}  # fmt: skip


class Latents64(comfy.latent_formats.LatentFormat):
    """The shape of Qwen-Image 2.1's latents, which ComfyUI knows from 0.37 on."""

    latent_channels, spacial_downscale_ratio = 64, 16


class QwenImage21(families.Flux2):
    """Latents of Qwen-Image 2.1, made by a network of another family."""

    latent_format = getattr(comfy.latent_formats, "QwenImage21", Latents64)


FAMILIES = {
    "Flux": (families.Flux, FLUX),
    "Flux.2": (families.Flux2, FLUX_2),
    "Qwen-Image 2.1": (QwenImage21, FLUX_2 | {"in_channels": 64, "out_channels": 64}),
    "Chroma": (families.Chroma, {key: value for key, value in FLUX.items() if key != "guidance_embed"} | {
        "image_model": "chroma", "in_channels": 64, "out_channels": 64, "in_dim": 64, "out_dim": 32, "hidden_dim": 32,
        "n_layers": 1,
    }),
    "Qwen-Image": (families.QwenImage, {
        "image_model": "qwen_image", "num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": 16, "axes_dims_rope": (4, 6, 6),
    }),
    "Z-Image": (families.Lumina2, {
        "image_model": "lumina2", "in_channels": 16, "dim": 256, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 4,
        "n_kv_heads": 4, "cap_feat_dim": 16, "axes_dims": [16, 24, 24], "axes_lens": [64, 64, 64], "qk_norm": True,
        "z_image_modulation": True, "time_scale": 1000.0, "multiple_of": 16,
    }),
    "SD3.5": (families.SD3, {
        "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 1, "input_size": None, "adm_in_channels": 16,
        "num_patches": 256, "pos_embed_max_size": 16, "pos_embed_scaling_factor": None, "qk_norm": "rms",
        "x_block_self_attn_layers": [0],
        "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 16, "out_features": 64}},
    }),
}  # fmt: skip


def target_of(family):
    kind, config = FAMILIES[family]
    with torch.inference_mode(False):
        made = kind({**config, "dtype": torch.float32}).get_model({}, device=CPU)
        randomise(made.diffusion_model, 4)
        for buffer in made.diffusion_model.buffers():
            buffer.nan_to_num_(0.0).clamp_(-1, 1)
    return ModelPatcher(made, CPU, CPU)


def bridge_to(target):
    """Return a bridge of chance from SD1.5's latents to those of `target`."""
    space = target.get_model_object("latent_format")
    blocks = (space.spacial_downscale_ratio // 8) ** 2
    turn = torch.randn(space.latent_channels, 4 * blocks, generator=torch.Generator().manual_seed(1))
    turn = torch.linalg.qr(turn)[0]
    return bridge((4, 8), (space.latent_channels, space.spacial_downscale_ratio), turn.T.contiguous(), turn)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_sd15_pair_beside_the_models_of_today(base, adapted, family, sampler):
    target = target_of(family)
    space = target.get_model_object("latent_format")
    edge = 128 // space.spacial_downscale_ratio
    frames = [1] * (space.latent_dimensions - 2)
    latent = {"samples": torch.zeros(2, space.latent_channels, *frames, edge, edge)}
    prompt = [
        [torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(6)), {"pooled_output": torch.zeros(1, 16)}]
    ]
    how = {"sampler": sampler, "latent_image": latent, "cfg": 1.0, "positive": prompt, "negative": prompt, "steps": 3}
    plain = ksampler(target, **how)
    assert plain.std() > 0.01

    def sampled(delta):
        given = {"positive": prompt, "negative": prompt, "latent_image": latent, "cfg": 1.0, "steps": 3}
        inputs = {
            "add_noise": "enable", "noise_seed": 7, "sampler_name": sampler, "scheduler": "normal", "start_at_step": 0,
            "end_at_step": 10000, "return_with_leftover_noise": "disable",
        }  # fmt: skip
        out = node("DeltaKSamplerAdvanced").execute(model=target, delta=delta, **given, **inputs)
        return out.result[0]["samples"]

    way = bridge_to(target)
    same, changed = (
        node("DeltaBridge").execute(delta=pair(base, other, cfg=1.0), bridge=way).result[0] for other in (base, adapted)
    )
    assert torch.equal(sampled(same), plain)
    found = sampled(changed)
    assert found.shape == plain.shape and torch.isfinite(found).all()
    assert relative_error(found, plain) > 1e-5


class Velocity(comfy.model_sampling.CONST):
    """The network gets the picture, not noise, and says what to take off it: IMG_TO_IMG_VELOCITY of newer hosts."""

    def calculate_denoised(self, sigma, model_output, model_input):
        return model_input - model_output

    def noise_scaling(self, sigma, noise, latent_image, max_denoise=False):
        return latent_image


@pytest.mark.parametrize("role", ["source", "adapted", "target"])
def test_noise_of_an_unknown_kind_is_refused_with_the_role_that_has_it(base, adapted, role):
    class Sampling(comfy.model_sampling.ModelSamplingDiscreteFlow, Velocity):
        pass

    roles = {"source": base, "adapted": adapted, "target": base}
    roles[role] = roles[role].clone()
    roles[role].add_object_patch("model_sampling", Sampling())
    with pytest.raises(ValueError, match=rf"The {role} model, BaseModel, mixes noise in its own way \(Sampling\)"):
        ksampler(delta_model(roles["target"], pair(roles["source"], roles["adapted"])))
