"""One run on the lab's models in the host: target, deltas, sampler and steps in, latents out."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

from lab.host import LAB, REPOSITORY, load_host

load_host(REPOSITORY, LAB)

import comfy.patcher_extension
import comfy.samplers
import nodes as host_nodes
import numpy as np
import torch
from torch import Tensor

from lab import adapters, denoisers, diffusion, lifted, shapes
from lab.family import CFG, STEPS, Family
from lab.roles import bridge_latents

NODES = host_nodes.NODE_CLASS_MAPPINGS


def option(node: str, **settings) -> Callable:
    """Return the change of a DELTA that an option node makes."""
    schema = NODES[node].GET_SCHEMA()
    defaults = {each.id: each.options[0] if hasattr(each, "options") else each.default for each in schema.inputs[1:]}
    return lambda delta: NODES[node].execute(delta=delta, **{**defaults, **settings}).result[0]


def conditioning(labels, wanted: Tensor | None = None) -> list:
    """Return the conditioning of class labels, with maps of wanted silhouettes [B, 1, h, w] for a control."""
    context = denoisers.one_hot(torch.as_tensor(np.asarray(labels)))
    return [[context if wanted is None else adapters.with_map(context, wanted), {}]]


@dataclass
class Made:
    """What a run made: latents, and the model calls of a picture (a call with guidance counts two)."""

    latents: Tensor
    calls: int


@dataclass(eq=False)
class Runs:
    """Runs on the lab's models, counted."""

    family: Family = field(default_factory=Family)
    rows: int = 0

    @cache  # noqa: B019 (lives as long as the process)
    def model(self, name: str):
        """Return the network `name` as a MODEL whose evaluations are counted."""

        def count(executor, x, *args, **kwargs):
            self.rows += len(x)
            return executor(x, *args, **kwargs)

        hosted = importlib.import_module(NODES["LabModel"].__module__).hosted(name).clone()
        hosted.add_wrapper(comfy.patcher_extension.WrappersMP.APPLY_MODEL, count)
        return hosted

    def net(self, name: str):
        return self.family.nets[name.removesuffix("_control")]

    def pair(self, source: str, adapted: str, labels, cfg: float = CFG, adapted_positive=None, wanted=None) -> tuple:
        """Return the DELTA of two networks; the adapted one may have another prompt, or maps to follow."""
        nothing = np.full(len(labels), shapes.UNNAMED)
        own = conditioning(labels), conditioning(nothing)
        positive = adapted_positive if adapted_positive is not None else labels
        theirs = conditioning(positive, wanted), conditioning(nothing, wanted)
        roles = (self.model(source), *own, self.model(adapted), *theirs)
        return NODES["DeltaPair"].execute(*roles, cfg, 1.0).result[0]

    def sample(
        self,
        name: str,
        labels,
        seed: int,
        delta: tuple = (),
        steps: int = STEPS,
        sampler: str = "euler",
        start: Tensor | None = None,
        sigmas: Tensor | None = None,
        wanted: Tensor | None = None,
        model=None,
        size: int = 16,
    ) -> Made:
        """Sample a network with a DELTA. `start` are clean latents to begin with, at the first of `sigmas`."""
        net = self.net(name)
        sigmas = diffusion.schedule(net, steps) if sigmas is None else sigmas
        nothing = conditioning(np.full(len(labels), shapes.UNNAMED), wanted)
        model = model or self.model(name)
        if delta:
            roles = model, conditioning(labels, wanted), nothing, CFG, delta
            guider = NODES["DeltaGuider"].execute(*roles).result[0]
        else:
            guider = NODES["CFGGuider"].execute(model, conditioning(labels, wanted), nothing, CFG).result[0]
        latent = torch.zeros(len(labels), net.channels, size, size) if start is None else start / net.scale
        self.rows = 0
        noise = NODES["RandomNoise"].execute(seed).result[0]
        chosen = comfy.samplers.sampler_object(sampler)
        out = NODES["SamplerCustomAdvanced"].execute(noise, guider, chosen, sigmas, {"samples": latent})
        return Made(out.result[0]["samples"] * net.scale, round(self.rows / len(labels)))

    def pictures(self, name: str, made: Made) -> Tensor:
        """Return the pictures [n, 3, 64, 64] in -1..1 of a network's latents."""
        return self.family.pictures(made.latents, self.net(name))

    def latents(self, name: str, pictures: Tensor) -> Tensor:
        """Return pictures as a network's clean latents, through the autoencoder."""
        net = self.net(name)
        with torch.no_grad():
            latents = torch.cat([self.family.coder.encode(part) for part in pictures.split(64)])
        return net.scale * (lifted.lift(latents) if net.channels == lifted.CHANNELS else latents)


def over_a_bridge(runs: Runs, source: str, target: str) -> Callable:
    """Return the change that a Delta Bridge makes, with a bridge fitted to some pictures."""
    pack = NODES["DeltaBridge"].__module__.removesuffix(".nodes.views")
    fitting = importlib.import_module(f"{pack}.sampling.bridge_fit")
    spaces = importlib.import_module(f"{pack}.sampling.host.latent_spaces")
    latents = bridge_latents(runs.family.coder, runs.net(source), runs.net(target))
    shapes_of_latents = (spaces.LatentSpace.of(runs.model(name)).shape for name in (source, target))
    bridge = fitting.fit_bridge(latents, *shapes_of_latents).bridge
    return lambda delta: NODES["DeltaBridge"].execute(delta, bridge).result[0]


def late_sigmas(net, steps: int, denoise: float) -> Tensor:
    """Return the last `steps` of a schedule of steps / denoise, as the host's img2img has them."""
    return diffusion.schedule(net, int(steps / denoise))[-(steps + 1) :]


def chained(*options: Callable) -> Callable:
    """Return the change that several options make, one after the other."""

    def change(delta):
        for each in options:
            delta = each(delta)
        return delta

    return change


def merged(target, source, adapted):
    """Return the target with the difference of adapted and source added to its weights, by the host's nodes."""
    difference = NODES["ModelMergeSubtract"]().merge(adapted, source, 1.0)[0]
    return NODES["ModelMergeAdd"]().merge(target, difference)[0]


SAMPLERS: Sequence[str] = comfy.samplers.KSampler.SAMPLERS
