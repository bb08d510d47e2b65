"""State mappings: the state of one model as another sees it, and the way back for the delta.

The target's own prediction splits its noisy latent into a clean part and noise. Each goes to the
source's latent space by its own map, and there they make a noisy latent again, at the noise level
of the source that has the same noise-to-signal ratio.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from .bridges import Affine, polar
from .noise_levels import NoiseLevels, by_sample, known_range, mix, noise_in, noise_to_signal, sigma_at
from .prediction import Prediction


def noise_map(
    clean_map: Affine, shape: Sequence[int], seeds: Sequence[int], device: torch.device | None = None
) -> Callable[[Tensor], Tensor]:
    """Return the map of unit noise beside `clean_map`, to latents of the source's `shape` [C, H, W].

    It has orthonormal rows or columns. Directions that the target's latents lack get noise that is drawn for each image
    from one of `seeds`.
    """
    weight = polar(clean_map.weight)
    after = len(weight)
    rotation = replace(clean_map, weight=weight, bias=torch.zeros(after)).to(device)
    if torch.linalg.matrix_rank(weight) == after:
        return rotation.linear
    lacking = Affine(torch.eye(after) - weight @ weight.T, torch.zeros(after), clean_map.unfold, clean_map.unfold)
    drawn = [torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    missing = lacking.linear(torch.stack(drawn)).to(device)
    return lambda noise: rotation.linear(noise) + missing.to(noise)


@dataclass(frozen=True, eq=False)
class LatentMaps:
    """The maps between the latents of a target's model and a source's, each [B, C, ...] to [B, C, ...].

    `delta_to_target` takes the predictions of adapted and source.
    """

    clean_to_source: Callable[[Tensor], Tensor]
    noise_to_source: Callable[[Tensor], Tensor]
    delta_to_target: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class StateMapping:
    """How the branches of a delta see a target's state, and how the delta gets to the target.

    `levels` are the target's, `branches` those of source and adapted. `maps` returns the maps for a height and width of
    the target's latents; it is None where all have the same latents. `detail` is the share of the target's
    noise-to-signal ratio that the branches get. `lossy` says that what goes to the source's latents and back is not
    what it was.
    """

    levels: NoiseLevels
    branches: tuple[NoiseLevels, NoiseLevels]
    maps: Callable[[tuple[int, int]], LatentMaps] | None = None
    detail: float = 1.0
    lossy: bool = False

    @cached_property
    def passthrough(self) -> frozenset[NoiseLevels]:
        """Those `branches` that take every latent and sigma of the target unchanged."""
        ranges = {(levels.sigma_min, levels.sigma_max) for levels in (self.levels, *self.branches)}
        return frozenset(filter(self.is_passthrough, self.branches)) if len(ranges) == 1 else frozenset()

    def is_passthrough(self, branch: NoiseLevels) -> bool:
        """Say whether latents and sigmas within the known range are the target's own."""
        return self.maps is None and branch.mixes_like(self.levels)

    def sigma_for(self, branch: NoiseLevels, sigma: Tensor) -> Tensor:
        """Return the sigma at which `branch` sees the target's `sigma`, kept within what both branches know."""
        if branch in self.passthrough:
            return sigma
        ratio = noise_to_signal(sigma, self.levels) * self.detail
        known = ratio.clamp(*self._known)
        level = sigma_at(known, branch)
        # What need not change is not rounded either.
        return torch.where(known == ratio, sigma, level) if self.is_passthrough(branch) else level

    def maps_for(self, latent: Tensor) -> LatentMaps | None:
        """Return the maps for a latent of the target's [..., H, W], None where all have the same latents."""
        return None if self.maps is None else self.maps((latent.shape[-2], latent.shape[-1]))

    @cached_property
    def _known(self) -> tuple[float, float]:
        return known_range(*self.branches)


class ProjectedState:
    """One state of the target as the branches of a mapping see it; its parts are computed once, when asked for.

    The state is the noisy latent x [B, C, ...] at sigma [B], and the `target`'s prediction there.
    """

    def __init__(self, mapping: StateMapping, x: Tensor, sigma: Tensor, target: Prediction):
        self._mapping, self._x, self._sigma, self._target = mapping, x, sigma, target

    def for_branch(self, branch: NoiseLevels) -> tuple[Tensor, Tensor]:
        """Return the noisy latent [B, C, ...] and the sigma [B] of a branch with these levels."""
        mapping, x, sigma = self._mapping, self._x, self._sigma
        if branch in mapping.passthrough:
            return x, sigma
        level = mapping.sigma_for(branch, sigma)
        seen = mix(self._clean, self._noise, level, branch)
        if mapping.is_passthrough(branch):
            seen = torch.where(by_sample(level == sigma, x), x, seen)
        return seen, level

    @cached_property
    def target(self) -> Prediction:
        """The target's prediction, in the source's latents."""
        return (self._clean, *map(self._to_source, self._target[1:]))

    def difference(self, adapted: Prediction, source: Prediction) -> Prediction:
        """Return adapted - source in the target's latents."""
        to_target = torch.sub if self._maps is None else self._maps.delta_to_target
        return tuple(to_target(a, s) for a, s in zip(adapted, source, strict=False))

    def _to_source(self, clean: Tensor) -> Tensor:
        return clean if self._maps is None else self._maps.clean_to_source(clean)

    @cached_property
    def _maps(self) -> LatentMaps | None:
        return self._mapping.maps_for(self._x)

    @cached_property
    def _clean(self) -> Tensor:
        return self._to_source(self._target[0])

    @cached_property
    def _noise(self) -> Tensor:
        """The state's noise, in the source's latents."""
        noise = noise_in(self._x, self._target[0], self._sigma, self._mapping.levels)
        return noise if self._maps is None else self._maps.noise_to_source(noise)
