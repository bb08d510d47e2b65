"""One run on the lab's models in the host: target, deltas, sampler and steps in, latents out."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import comfy.samplers
import numpy as np
import torch
from torch import Tensor

from harness import nodes
from harness.nodes import custom_sampler, node, of_the_pack, run_node, shown
from lab import adapters, denoisers, diffusion, shapes
from lab.family import CFG, STEPS, Family
from lab.roles import bridge_latents


def option(name: str, **settings) -> Callable:
    """Return the change of a DELTA that an option node makes."""
    return partial(nodes.option, name, **settings)


def conditioning(labels, wanted: Tensor | None = None) -> list:
    """Return the conditioning of class labels, with maps of wanted silhouettes [B, 1, h, w] for a control."""
    context = denoisers.one_hot(torch.as_tensor(np.asarray(labels)))
    return [[context if wanted is None else adapters.with_map(context, wanted), {}]]


def hosted(name: str):
    """Return the network `name` as a MODEL."""
    return importlib.import_module(node("LabModel").__module__).hosted(name)


def pair(source: tuple, adapted: tuple, cfg: float = CFG, strength: float = 1.0):
    """Return the DELTA of two models, each with its positive and negative prompts."""
    roles = {"source": source, "adapted": adapted}
    parts = ("model", "positive", "negative")
    inputs = {
        f"{role}_{part}": value for role, given in roles.items() for part, value in zip(parts, given, strict=True)
    }
    return run_node("DeltaPair", **inputs, cfg=cfg, strength=strength)


@dataclass
class Made:
    """What a run made: latents, the model calls of a picture (a call with guidance counts two), and their sizes.

    `work` counts a call by its latent's size beside that of the picture.
    """

    latents: Tensor
    calls: int
    work: float = 0.0


@dataclass(eq=False)
class Runs:
    """Runs on the lab's models, counted. The negative prompt of all models is the empty prompt."""

    family: Family = field(default_factory=Family)
    rows: int = 0
    elements: int = 0

    @cache  # noqa: B019 (lives as long as the process)
    def model(self, name: str):
        """Return the network `name` as a MODEL whose evaluations are counted."""

        def count(args):
            self.rows += len(args["input"])
            self.elements += args["input"].numel()

        return shown(hosted(name), count)

    def net(self, name: str):
        return self.family.nets[name.removesuffix("_control")]

    def pair(self, source: str, adapted: str, labels, cfg: float = CFG, adapted_positive=None, wanted=None) -> tuple:
        """Return the DELTA of two networks; the adapted one may have another prompt, or maps to follow."""
        negative = np.full(len(labels), shapes.UNNAMED)
        own = conditioning(labels), conditioning(negative)
        positive = adapted_positive if adapted_positive is not None else labels
        theirs = conditioning(positive, wanted), conditioning(negative, wanted)
        return pair((self.model(source), *own), (self.model(adapted), *theirs), cfg)

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
        size: int | None = None,
    ) -> Made:
        """Sample a network with a DELTA. `start` are clean latents to begin with, at the first of `sigmas`."""
        net = self.net(name)
        sigmas = diffusion.schedule(net, steps) if sigmas is None else sigmas
        prompts = {
            "positive": conditioning(labels, wanted),
            "negative": conditioning(np.full(len(labels), shapes.UNNAMED), wanted),
        }
        roles = {"model": model or self.model(name), **prompts, "cfg": CFG}
        guider = run_node("DeltaGuider", **roles, delta=delta) if delta else run_node("CFGGuider", **roles)
        size = size or 16 * net.fineness
        latent = torch.zeros(len(labels), net.channels, size, size) if start is None else start / net.scale
        self.rows = self.elements = 0
        out = custom_sampler(guider, sigmas, {"samples": latent}, seed, sampler)
        work = self.elements / latent.numel()
        return Made(out["samples"] * net.scale, round(self.rows / len(labels)), work)

    def pictures(self, name: str, made: Made) -> Tensor:
        """Return the pictures [n, 3, H, W] in -1..1 of a network's latents."""
        return self.family.pictures(made.latents, self.net(name))

    def latents(self, name: str, pictures: Tensor) -> Tensor:
        """Return pictures as a network's clean latents, through the autoencoder."""
        return self.family.latents(pictures, self.net(name))


def over_a_bridge(runs: Runs, source: str, target: str) -> Callable:
    """Return the change that a Delta Bridge makes, with a bridge fitted to some pictures."""
    latents = bridge_latents(runs.family.coder, runs.net(source), runs.net(target))
    shapes_of_latents = (_space(runs, name).shape for name in (source, target))
    bridge = of_the_pack("sampling.bridge_fit").fit_bridge(latents, *shapes_of_latents).bridge
    return option("DeltaBridge", bridge=bridge)


def ways_apart(runs: Runs, source: str, target: str) -> dict[str, Callable]:
    """Return the ways from a source to a target of twice its size: name -> the change of a DELTA.

    Both have autoencoders of their own.
    """
    vaes = {"source_vae": as_vae(runs, source), "target_vae": as_vae(runs, target)}
    lists = {name: [vae] for name, vae in vaes.items()} | {"scale": [0.5]}
    drawn = [shapes.draw(np.random.default_rng(77), np.resize(shapes.SEEN, 17), k, fineness=2) for k in shapes.LOOKS]
    given = torch.from_numpy(np.concatenate(drawn)).float() / 255
    bridges = {
        "latents shared raw": of_the_pack("sampling.bridges").same_latents(_space(runs, target).shape),
        "bridge fitted to given pictures": run_node("LatentBridgeFit", images=[given], **lists),
        "bridge fitted to made pictures": run_node("LatentBridgeFit", **lists),
        "both autoencoders": run_node("LatentBridgeVAE", **vaes),
    }
    half = option("DeltaResolution", scale=0.5)
    wired = {name: chained(half, option("DeltaBridge", bridge=bridge)) for name, bridge in bridges.items()}
    return {"nothing wired": half} | wired


def _space(runs: Runs, name: str):
    return of_the_pack("sampling.host.latent_spaces").LatentSpace.of(runs.model(name))


def as_vae(runs: Runs, name: str):
    """Return the autoencoder of a network as a VAE of the host's."""
    return importlib.import_module(node("LabModel").__module__).hosted_vae(runs.net(name).coder)


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
    difference = run_node("ModelMergeSubtract", model1=adapted, model2=source)
    return run_node("ModelMergeAdd", model1=target, model2=difference)


SAMPLERS: Sequence[str] = comfy.samplers.KSampler.SAMPLERS
