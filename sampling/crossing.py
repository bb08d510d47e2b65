"""Crossings: the state of one model as another sees it, and the way back for the delta.

The target's own prediction splits its noisy latent into a clean part and noise. Each goes to the
source's latent space by its own map, and there they make a noisy latent again, at the noise level
of the source that has the same ratio of noise to signal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from .bridges import Affine, polar
from .noise_levels import NoiseLevels, known_range, mix, noise_in, noise_to_signal, sigma_at
from .samples import by_sample


@dataclass(frozen=True, eq=False)
class NoiseMap:
    """Carries unit noise: by a map with orthonormal rows or columns, and by fixed noise where that gives none."""

    rotation: Affine
    missing: Tensor

    def to(self, device: torch.device) -> "NoiseMap":
        return NoiseMap(self.rotation.to(device), self.missing.to(device))

    def __call__(self, noise: Tensor) -> Tensor:
        return self.rotation.linear(noise) + self.missing.to(noise)


def noise_map(clean_map: Affine, shape: Sequence[int], seed: int) -> NoiseMap:
    """Return the map of noise beside `clean_map`; its fixed part is for latents of the source's `shape` [B, C, H, W].

    Directions that the target's latents lack get noise drawn from `seed`.
    """
    weight = polar(clean_map.weight.double()).float()
    after = len(weight)
    rotation = replace(clean_map, weight=weight, bias=torch.zeros(after))
    if torch.linalg.matrix_rank(weight) == after:
        return NoiseMap(rotation, torch.zeros(()))
    lacking = Affine(torch.eye(after) - weight @ weight.T, rotation.bias, clean_map.unfold, clean_map.unfold)
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return NoiseMap(rotation, lacking.linear(drawn))


@dataclass(frozen=True, eq=False)
class LatentMaps:
    """The maps between the latents of a target's model and a source's, each [B, C, ...] to [B, C, ...].

    `change_to_source` takes what changes in a clean latent, by the linear map that is nearest to `clean_to_source`.
    `delta_to_target` takes the predictions of adapted and source. `coarse` is what the source's resolution
    leaves of a latent of the target's, None where that is all of it or where more than resolution is lost.
    """

    clean_to_source: Callable[[Tensor], Tensor]
    change_to_source: Callable[[Tensor], Tensor]
    noise_to_source: Callable[[Tensor], Tensor]
    delta_to_target: Callable[[Tensor, Tensor], Tensor]
    coarse: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Crossing:
    """How the branches of a delta see a target's state, and how the delta gets to the target.

    `levels` are the target's, `branches` those of source and adapted. `maps` is None where all have
    the same latents. `detail` is the share of the target's noise-to-signal ratio that the branches get. `loses`
    says that what goes to the source's latents and back is not what it was, `rough` that this can be seen, and
    `misleads` how much is guessed otherwise there even of what the source knows, times the limit of `Trust`.
    """

    levels: NoiseLevels
    branches: tuple[NoiseLevels, NoiseLevels]
    maps: LatentMaps | None = None
    detail: float = 1.0
    loses: bool = False
    rough: bool = False
    misleads: float = 0.0

    @cached_property
    def as_it_is(self) -> frozenset[NoiseLevels]:
        """Those `branches` that take every latent and sigma of the target as they are."""
        ranges = {(levels.sigma_min, levels.sigma_max) for levels in (self.levels, *self.branches)}
        return frozenset(filter(self.keeps, self.branches)) if len(ranges) == 1 else frozenset()

    def sigma_for(self, branch: NoiseLevels, sigma: Tensor) -> Tensor:
        """Return the sigma at which `branch` sees the target's `sigma`, kept within what both branches know."""
        if branch in self.as_it_is:
            return sigma
        ratio = noise_to_signal(sigma, self.levels) * self.detail
        known = ratio.clamp(*self._known)
        level = sigma_at(known, branch)
        # What need not change is not rounded either.
        return torch.where(known == ratio, sigma, level) if self.keeps(branch) else level

    def delta(self, adapted: Tensor, source: Tensor) -> Tensor:
        """Return what `adapted` predicts beyond `source`, in the target's latents."""
        return adapted - source if self.maps is None else self.maps.delta_to_target(adapted, source)

    @cached_property
    def _known(self) -> tuple[float, float]:
        return known_range(*self.branches)

    def keeps(self, branch: NoiseLevels) -> bool:
        """Say whether latents and sigmas within the known range are the target's own."""
        return self.maps is None and branch.mixes_like(self.levels)


class Seen:
    """One state of the target as the branches of a crossing see it; its parts are worked out once, when asked for.

    The state is the noisy latent x [B, C, ...] at sigma [B], and the `denoised` latent that the target predicts there.
    """

    def __init__(self, crossing: Crossing, x: Tensor, sigma: Tensor, denoised: Tensor):
        self._crossing, self._x, self._sigma, self._denoised = crossing, x, sigma, denoised
        self._own: dict[Tensor, Tensor] = {}
        self._states: dict[NoiseLevels, tuple[Tensor, Tensor]] = {}

    def by(self, branch: NoiseLevels) -> tuple[Tensor, Tensor]:
        """Return the latent and the sigma [B] of a branch with these levels."""
        if branch not in self._states:
            self._states[branch] = self._state(branch)
        return self._states[branch]

    def own(self, clean: Tensor) -> Tensor:
        """Return a clean latent of the target's [B, C, ...] in the source's latents."""
        if clean not in self._own:
            maps = self._crossing.maps
            self._own[clean] = clean if maps is None else maps.clean_to_source(clean)
        return self._own[clean]

    def roughly(self, clean: Tensor) -> Tensor:
        """Return another clean latent of the target's there, by a way that costs next to nothing."""
        maps, denoised = self._crossing.maps, self._denoised
        if maps is None or clean is denoised:
            return self.own(clean)
        return self.own(denoised) + maps.change_to_source(clean - denoised)

    def _state(self, branch: NoiseLevels) -> tuple[Tensor, Tensor]:
        crossing, x, sigma = self._crossing, self._x, self._sigma
        if branch in crossing.as_it_is:
            return x, sigma
        level = crossing.sigma_for(branch, sigma)
        seen = mix(self.own(self._denoised), self._noise, level, branch)
        if crossing.keeps(branch):
            seen = torch.where(by_sample(level == sigma, x), x, seen)
        return seen, level

    @cached_property
    def _noise(self) -> Tensor:
        """The state's noise, in the source's latents."""
        noise = noise_in(self._x, self._denoised, self._sigma, self._crossing.levels)
        return noise if self._crossing.maps is None else self._crossing.maps.noise_to_source(noise)
