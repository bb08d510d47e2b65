"""The lab's trained networks on disk.

A base model is stored in float16, the largest in 8 bits with a scale a row. A fine-tune is stored as its difference
from the model it began as, in 8 bits likewise, which is a quarter of the size and keeps two digits of the difference.
A LoRA is stored as its low-rank parts. Metadata says how each came to be.
"""

import pathlib

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import adapters, autoencoder, denoisers

WEIGHTS = pathlib.Path(__file__).parent / "weights"
SCALE = ".scale"


def _path(name: str) -> pathlib.Path:
    return WEIGHTS / f"{denoisers.WEIGHTS_OF.get(name, name)}.safetensors"


IN_EIGHT_BITS = ("large_target",)


def save(name: str, state: dict[str, Tensor], start: str | None = None, **facts) -> None:
    """Write weights, or their differences from those of the network called `start`."""
    WEIGHTS.mkdir(exist_ok=True)
    state = {key: value.detach().float() for key, value in state.items()}
    if start:
        facts["difference_from"] = start
        base = stored(start)
        state = {key: value - base[key] for key, value in state.items()}
    if start or name in IN_EIGHT_BITS:
        state = {stem: part for key, value in state.items() for stem, part in _eight_bits(key, value).items()}
    kept = {k: v.contiguous() if v.dtype == torch.int8 else v.half().contiguous() for k, v in state.items()}
    save_file(kept, _path(name), metadata={key: str(value) for key, value in facts.items()})


def _eight_bits(key: str, value: Tensor) -> dict[str, Tensor]:
    if value.ndim < 2:
        return {key: value}
    scale = value.flatten(1).abs().amax(1).clamp(min=1e-6) / 127
    return {key: (value / scale.view(-1, *[1] * (value.ndim - 1))).round().to(torch.int8), key + SCALE: scale}


def _scaled(value: Tensor, scale: Tensor | None) -> Tensor:
    return value if scale is None else value * scale.view(-1, *[1] * (value.ndim - 1))


def stored(name: str) -> dict[str, Tensor]:
    """Return the weights of a network in float32, whatever way they are stored."""
    with safe_open(_path(name), "pt") as file:
        facts = file.metadata() or {}
    state = {key: value.float() for key, value in load_file(_path(name)).items()}
    if "low_rank_on" in facts:
        base = stored(facts["low_rank_on"])
        for key in [k for k in state if k.endswith(".up")]:
            layer = key.removesuffix(".up")
            weight = base[f"{layer}.weight"]
            base[f"{layer}.weight"] = weight + (state[key] @ state[f"{layer}.down"]).view_as(weight)
        return base
    scales = {key: value for key, value in state.items() if key.endswith(SCALE)}
    whole = {key: _scaled(value, scales.get(key + SCALE)) for key, value in state.items() if key not in scales}
    if "difference_from" not in facts:
        return whole
    base = stored(facts["difference_from"])
    return {key: base[key] + value for key, value in whole.items()}


def load(name: str, model: torch.nn.Module) -> torch.nn.Module:
    """Fill the model with stored weights, in float32, ready for use."""
    model.load_state_dict(stored(name))
    return model.eval().requires_grad_(False)


def network(name: str) -> torch.nn.Module:
    """Return the trained network `name`; those of `adapters.CONTROLS` with their control input."""
    if name not in adapters.CONTROLS:
        return load(name, denoisers.NETS[name]())
    net = adapters.Controlled(network(adapters.CONTROLS[name]))
    load(name, net.control)
    return net.eval()


def load_autoencoder(name: str = "autoencoder") -> autoencoder.AutoEncoder:
    """Return a trained autoencoder, normalisation already folded in."""
    model = autoencoder.made(name)
    model.norm = torch.nn.Identity()
    return load(name, model)
