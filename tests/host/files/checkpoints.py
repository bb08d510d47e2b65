"""Checkpoints: a diffusion model, its text encoders and its autoencoder under the prefixes of their family."""

from . import autoencoders, diffusion_models, text_encoders
from .weights import Shapes, prefixed

MODEL, VAE = "model.diffusion_model.", "first_stage_model."


def sd15() -> Shapes:
    text = prefixed("cond_stage_model.transformer.", text_encoders.clip_l())
    return _checkpoint(diffusion_models.sd15(), text, autoencoders.kl())


def sd21() -> Shapes:
    return _checkpoint(diffusion_models.sd21(), _sd2_text(), autoencoders.kl())


def sd21_unclip() -> Shapes:
    eye = prefixed("embedder.model.visual.", text_encoders.clip_h_vision())
    return _checkpoint(diffusion_models.sd21_unclip(), _sd2_text() | eye, autoencoders.kl())


def sdxl() -> Shapes:
    text = prefixed("conditioner.embedders.0.transformer.", text_encoders.clip_l())
    text |= prefixed("conditioner.embedders.1.model.", text_encoders.clip_g())
    return _checkpoint(diffusion_models.sdxl(), text, autoencoders.kl())


def sd3() -> Shapes:
    """SD3 medium as it is published, without text encoders."""
    return _checkpoint(diffusion_models.sd3(), {}, autoencoders.kl(16))


def sd35() -> Shapes:
    """SD3.5 medium with the smallest of its text encoders; the host builds those that a file has."""
    text = prefixed("text_encoders.clip_l.transformer.", text_encoders.clip_l())
    return _checkpoint(diffusion_models.sd35(), text, autoencoders.kl(16))


def _checkpoint(model: Shapes, text: Shapes, vae: Shapes) -> Shapes:
    return prefixed(MODEL, model) | text | prefixed(VAE, vae)


def _sd2_text() -> Shapes:
    return prefixed("cond_stage_model.model.", text_encoders.clip_h())
