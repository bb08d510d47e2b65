"""The lab's crossings: which networks play which role, and what leads from one's state to the other's."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sampling.bridge_fit import fit_bridge
from sampling.bridges import LatentShape, LinearBridge, affine_of, same_latents, scale
from sampling.call import States, call
from sampling.delta import Delta, add_all
from sampling.noise_levels import NoiseLevels
from sampling.prediction import TARGET
from sampling.prepared_delta import PreparedDelta
from sampling.state_mapping import LatentMaps, StateMapping, noise_map

from . import autoencoder, diffusion, lifted, shapes

FITTED_PICTURES = 20


@dataclass(frozen=True)
class Roles:
    """The networks of a crossing by name, and the groups of classes that it is measured on."""

    source: str
    adapted: str
    target: str
    oracle: str
    groups: tuple = (shapes.SEEN, shapes.UNSEEN)

    def names(self) -> dict[str, str]:
        return {role: getattr(self, role) for role in ("source", "adapted", "target", "oracle")}


CROSSINGS = {
    "eps -> v": Roles("source", "adapted", "target", "oracle"),
    "eps -> scaled eps": Roles("source", "adapted", "scaled_target", "scaled_oracle"),
    "eps, 4 channels -> flow, 16 channels": Roles("source", "adapted", "flow_target", "flow_oracle"),
    # The old pair in the place of target and oracle: these know four of the six classes.
    "flow, 16 channels -> eps, 4 channels": Roles(
        "flow_target", "flow_oracle", "source", "adapted", groups=(shapes.SEEN,)
    ),
}


def levels(net) -> NoiseLevels:
    """Return the noise levels that a network was trained on."""
    if net.prediction == "flow":
        return NoiseLevels(True, 1 / diffusion.STEPS, 1.0)
    return NoiseLevels(False, diffusion.SIGMAS[0].item(), diffusion.SIGMAS[-1].item())


def bridge_latents(coder, source, target) -> list[tuple[Tensor, Tensor]]:
    """Return the latents of some pictures in the spaces of two networks: what a bridge is fitted to."""
    drawn = [shapes.draw(np.random.default_rng(77), np.resize(shapes.SEEN, FITTED_PICTURES), k) for k in shapes.LOOKS]
    latents = coder.encode(autoencoder.to_model(np.concatenate(drawn))).detach()
    spaces = [lifted.lift(latents) if net.channels == lifted.CHANNELS else latents for net in (source, target)]
    return list(zip(*spaces, strict=True))


def fitted_bridge(coder, source, target) -> LinearBridge:
    """Return the bridge between the latents of two networks, fitted to some pictures as a user would."""
    shape = [LatentShape(net.channels, autoencoder.FACTOR) for net in (source, target)]
    return fit_bridge(bridge_latents(coder, source, target), *shape).bridge


def crossing_between(coder, source, adapted, target, batch: int, seed: int, same_detail: bool = False) -> StateMapping:
    """Return how `source` and `adapted` see the states of `target`: `batch` latents of 16x16."""
    known = levels(target), (levels(source), levels(adapted))
    if (source.channels, source.scale) == (target.channels, target.scale):
        return StateMapping(*known)
    if source.channels == target.channels:
        bridge = same_latents(LatentShape(source.channels, autoencoder.FACTOR))
    else:
        bridge = fitted_bridge(coder, source, target)

    def clean_to_source(clean: Tensor) -> Tensor:
        return source.scale * bridge.to_source(clean / target.scale)

    def delta_to_target(adapted: Tensor, source_prediction: Tensor) -> Tensor:
        return target.scale * bridge.delta_to_target(adapted / source.scale, source_prediction / source.scale)

    linear = affine_of(clean_to_source, target.channels, 1, 1)
    noise_to_source = noise_map(linear, (source.channels, 16, 16), range(seed, seed + batch))
    maps = LatentMaps(clean_to_source, noise_to_source, delta_to_target)
    return StateMapping(*known, lambda size: maps, scale(linear) if same_detail else 1.0)


def with_delta(
    mapping: StateMapping, source: Callable, adapted: Callable, target: Callable, strength: float = 1.0
) -> Callable:
    """Return the target's function (x, sigma) -> denoised with the delta added, by the pack's own method.

    Each role is a function (x, sigma) -> denoised, guidance included.
    """
    models = {"source": source, "adapted": adapted, TARGET: target}
    settings = Delta(None, None, strength)
    delta = PreparedDelta(settings, mapping, "source", "adapted", torch.zeros(1), lambda percent: 0.0)
    states: States = {}

    def evaluate(requests):
        return {who: (models[who](request.x, request.sigma),) for request in requests for who in request.models}

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal states
        result = call([delta], [add_all], states, x, sigma, evaluate)
        states = result.states
        return result.prediction[0]

    return denoised
