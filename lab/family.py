"""The trained family, sampled without ComfyUI through the pack's own pure engine."""

from collections.abc import Callable

import torch
from torch import Tensor

from . import autoencoder, denoisers, diffusion, judge, lifted, storage
from .roles import CROSSINGS, crossing_between, with_delta

COLUMNS = ("adapted", "target", "target + delta", "oracle")
SAME_DETAIL = "target + delta, same detail"
DELTAS = ("target + delta", SAME_DETAIL)
FIRST = next(iter(CROSSINGS))
STEPS, CFG = 24, 2.0


class _Coders(dict):
    """The autoencoders by name, each loaded when it is first asked for."""

    def __missing__(self, name: str) -> autoencoder.AutoEncoder:
        self[name] = storage.load_autoencoder(name)
        return self[name]


class _Judges(dict):
    """The judges by the fineness of the pictures that they judge."""

    def __missing__(self, fineness: int) -> judge.Judge:
        self[fineness] = storage.load({1: "judge", 2: "large_judge"}[fineness], judge.Judge(fineness))
        return self[fineness]


class _Nets(dict):
    """The trained networks by name, each loaded when it is first asked for."""

    def __missing__(self, name: str) -> torch.nn.Module:
        self[name] = storage.network(name)
        return self[name]


class Family:
    """All trained networks, and sampling by name."""

    def __init__(self):
        self.coders, self.judges, self.nets = _Coders(), _Judges(), _Nets()

    @property
    def coder(self) -> autoencoder.AutoEncoder:
        """The autoencoder of most members."""
        return self.coders["autoencoder"]

    @property
    def judge(self) -> judge.Judge:
        """The judge of pictures of 64x64."""
        return self.judges[1]

    def nets_of(self, crossing: str) -> dict[str, torch.nn.Module]:
        """Return the networks of a crossing by role."""
        return {role: self.nets[name] for role, name in CROSSINGS[crossing].names().items()}

    def denoiser(
        self,
        column: str,
        context: Tensor,
        cfg: float = CFG,
        strength: float = 1.0,
        seed: int = 0,
        crossing: str = FIRST,
    ) -> Callable:
        """Return the guided function (x, sigma) -> denoised of a column of a crossing, for its network's own x."""
        nets = self.nets_of(crossing)
        if column not in DELTAS:
            return diffusion.guided(nets[column], context, cfg)
        source, adapted, target = (diffusion.guided(nets[k], context, cfg) for k in ("source", "adapted", "target"))
        roles = (nets["source"], nets["adapted"], nets["target"])
        seen = crossing_between(self.coder, *roles, len(context), seed, same_detail=column == SAME_DETAIL)
        return with_delta(seen, source, adapted, target, strength)

    def pictures(self, latents: Tensor, net: torch.nn.Module) -> Tensor:
        """Return pictures [n, 3, H, W] in -1..1 of a network's clean latents."""
        coder = self.coders[net.coder]
        with torch.no_grad():
            parts = [coder.decode(lifted.lowered(part / net.scale)) for part in latents.split(64)]
        return torch.cat(parts).clamp(-1, 1)

    def latents(self, pictures: Tensor, net: torch.nn.Module) -> Tensor:
        """Return pictures [n, 3, H, W] in -1..1 as a network's clean latents."""
        coder = self.coders[net.coder]
        with torch.no_grad():
            latents = torch.cat([coder.encode(part) for part in pictures.split(64)])
        return net.scale * (lifted.lift(latents) if net.channels == lifted.CHANNELS else latents)

    def sample(
        self, column, labels, seed, steps=STEPS, cfg=CFG, strength=1.0, progress=lambda done: None, crossing=FIRST
    ) -> Tensor:
        """Return pictures [n, 3, 64, 64] in -1..1 for class labels; the noise depends on seed and place only."""
        net = self.nets_of(crossing)[column.split(" + ")[0]]
        noise = torch.randn(len(labels), net.channels, 16, 16, generator=torch.Generator().manual_seed(seed))
        sigmas = diffusion.schedule(net, steps)
        latents = []
        for part, labels_of_part in zip(noise.split(64), torch.as_tensor(labels).split(64), strict=True):
            denoiser = self.denoiser(column, denoisers.one_hot(labels_of_part), cfg, strength, seed, crossing)
            latents.append(
                diffusion.sample_euler(denoiser, diffusion.pure_noise(net, part, sigmas[0]), sigmas, progress)
            )
        return self.pictures(torch.cat(latents), net)
