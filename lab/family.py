"""The trained family, sampled without ComfyUI through the pack's own pure engine."""

import torch
from torch import Tensor

from sampling.delta import add_delta

from . import denoisers, diffusion, judge, storage

COLUMNS = ("adapted", "target", "target + delta", "oracle")
STEPS, CFG = 24, 2.0


class Family:
    """All trained networks, and sampling by name."""

    def __init__(self):
        self.coder = storage.load_autoencoder()
        self.judge = storage.load("judge", judge.Judge())
        self.nets = {name: storage.load(name, make()) for name, make in denoisers.NETS.items()}

    def denoiser(self, name: str, context: Tensor, cfg: float = CFG, strength: float = 1.0):
        """Return the guided function (x, sigma) -> denoised of a column."""
        if name != "target + delta":
            return diffusion.guided(self.nets[name], context, cfg)
        target, adapted, source = (
            diffusion.guided(self.nets[role], context, cfg) for role in ("target", "adapted", "source")
        )
        return lambda x, sigma: add_delta(target(x, sigma), adapted(x, sigma), source(x, sigma), strength)

    def sample(self, name, labels, seed, steps=STEPS, cfg=CFG, strength=1.0, progress=lambda done: None) -> Tensor:
        """Return pictures [n, 3, 64, 64] in -1..1 for class labels; the noise depends on seed and place only."""
        noise = torch.randn(len(labels), 4, 16, 16, generator=torch.Generator().manual_seed(seed))
        pictures = []
        for part, labels_of_part in zip(noise.split(64), torch.as_tensor(labels).split(64), strict=True):
            denoiser = self.denoiser(name, denoisers.one_hot(labels_of_part), cfg, strength)
            latent = diffusion.sample_euler(denoiser, part, diffusion.karras_sigmas(steps), progress)
            with torch.no_grad():
                pictures.append(self.coder.decode(latent))
        return torch.cat(pictures).clamp(-1, 1)
