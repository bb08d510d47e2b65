"""Runs of the lab's models in ComfyUI: a target, deltas and names in; images out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor

from harness import nodes
from harness.nodes import run_node, shown

from . import drawings, latents, networks, world


def conditioning(names: Sequence[str], wanted: Tensor | None = None) -> list:
    """Return the conditioning of names ("": the empty prompt), with maps of silhouettes [B, 1, h, w] for a control."""
    context = networks.one_hot(torch.tensor(world.labels(names)))
    return [[context if wanted is None else networks.with_map(context, wanted), {}]]


def option(name: str, **settings) -> Callable:
    """Return the change of a DELTA that an option node makes."""
    return partial(nodes.option, name, **settings)


@cache
def vae(name: str):
    """Return the VAE of a base model."""
    return run_node("LabVAE", name=networks.NETS[name].coder)


def decoded(name: str, samples: Tensor) -> Tensor:
    """Return the images [n, 3, H, W] in -1..1 of a base model's latents."""
    return run_node("VAEDecode", vae=vae(name), samples={"samples": samples}).movedim(-1, 1) * 2 - 1


def encoded(name: str, images: Tensor) -> Tensor:
    """Return images [n, 3, H, W] in -1..1 as a base model's latents."""
    return run_node("VAEEncode", vae=vae(name), pixels=images.movedim(1, -1) / 2 + 0.5)["samples"]


def drawn(names: Sequence[str], seed: int, sets: Sequence[str] = world.TARGET_SETS) -> Tensor:
    """Return drawings [n, 3, 64, 64] of names from some sets; a control follows those of the targets' sets."""
    images = drawings.Drawings(drawings.load(), sets, range(len(world.NAMES)), 64)
    return images.draw(len(names), torch.Generator().manual_seed(seed), torch.tensor(world.labels(names)))[0]


@dataclass(eq=False)
class Runs:
    """Runs on the lab's models. `rows` counts the samples that all models of the last run evaluated."""

    rows: int = 0
    made: dict = field(default_factory=dict)

    def model(self, name: str):
        """Return the model `name` as a MODEL whose evaluations are counted."""
        if name not in self.made:

            def count(args):
                self.rows += len(args["input"])

            self.made[name] = shown(run_node("LabModel", name=name), count)
        return self.made[name]

    def pair(self, names, adapted: str, source="source", cfg=world.CFG, strength=1.0, wanted=None, said=None):
        """Return the DELTA of two models. The adapted one may have maps, `wanted`, and other names, `said`."""
        none = [""] * len(names)
        roles = {
            "source_model": self.model(source),
            "source_positive": conditioning(names),
            "source_negative": conditioning(none),
            "adapted_model": self.model(adapted),
            "adapted_positive": conditioning(said or names, wanted),
            "adapted_negative": conditioning(none, wanted),
        }
        return run_node("DeltaPair", **roles, cfg=cfg, strength=strength)

    def sample(
        self,
        name,
        names,
        seed,
        deltas=(),
        start=None,
        denoise=1.0,
        steps=world.STEPS,
        wanted=None,
        model=None,
    ) -> Tensor:
        """Return the images [n, 3, H, W] in -1..1 that a KSampler makes, of noise or of images to begin with."""
        base = next(base for base in reversed(world.BASES) if name.startswith(base))
        net = networks.NETS[base]
        edge = net.size // latents.FACTOR
        latent = torch.zeros(len(names), net.channels, edge, edge) if start is None else encoded(base, start)
        model = model or self.model(name)
        for delta in deltas:
            model = run_node("DeltaModel", model=model, delta=delta)
        none = [""] * len(names)
        prompts = {"positive": conditioning(names, wanted), "negative": conditioning(none, wanted)}
        how = {"seed": seed, "steps": steps, "cfg": world.CFG, "sampler_name": "euler", "denoise": denoise}
        self.rows = 0
        out = run_node(
            "KSampler", model=model, **prompts, **how, scheduler=net.scheduler,
            latent_image={"samples": latent},
        )  # fmt: skip
        self.rows = round(self.rows / len(names))
        return decoded(base, out["samples"])


@cache
def bridges() -> dict[str, Callable]:
    """Return the ways between source and flow_target: name -> the change of a DELTA."""
    vaes = {"source_vae": vae("source"), "target_vae": vae("flow_target")}
    images = drawings.Drawings(drawings.load(), world.TARGET_SETS, range(len(world.NAMES)), 128)
    generator = torch.Generator().manual_seed(5)
    given = images.draw(48, generator)[0].movedim(1, -1) / 2 + 0.5
    lists = {name: [each] for name, each in vaes.items()} | {"scale": [0.5], "images": [given]}
    found = {
        "fitted": run_node("LatentBridgeFit", **lists),
        "both autoencoders": run_node("LatentBridgeVAE", **vaes),
    }
    half = option("DeltaResolution", scale=0.5)
    return {"preview colors": half} | {
        name: chained(half, option("DeltaBridge", bridge=bridge)) for name, bridge in found.items()
    }


def across(target: str) -> Callable:
    """Return the change of a DELTA of the source for a target: none, or the best bridge."""
    return bridges()["both autoencoders"] if target == "flow_target" else chained()


def chained(*options: Callable) -> Callable:
    """Return the change that several options make, one after the other."""

    def change(delta):
        for each in options:
            delta = each(delta)
        return delta

    return change
