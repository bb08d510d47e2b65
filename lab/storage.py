"""The lab's trained networks on disk."""

import pathlib

import torch
from safetensors.torch import load_file, save_file

from . import autoencoder, denoisers

WEIGHTS = pathlib.Path(__file__).parent / "weights"


def save(name, model, **facts):
    """Writes the weights in float16 with facts about the training as metadata."""
    WEIGHTS.mkdir(exist_ok=True)
    state = {k: v.detach().to(torch.float16).contiguous() for k, v in model.state_dict().items()}
    save_file(state, WEIGHTS / f"{name}.safetensors", metadata={k: str(v) for k, v in facts.items()})


def load(name, model):
    """Fills the model with stored weights, in float32, ready for use."""
    state = load_file(WEIGHTS / f"{denoisers.WEIGHTS_OF.get(name, name)}.safetensors")
    model.load_state_dict({k: v.float() for k, v in state.items()})
    return model.eval().requires_grad_(False)


def load_autoencoder():
    """The trained autoencoder, normalisation already folded in."""
    model = autoencoder.AutoEncoder()
    model.norm = torch.nn.Identity()
    return load("autoencoder", model)
