"""The trace of a delta over a run: how large it was at each call, which way it went, and where."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.linalg import vector_norm


@dataclass(frozen=True)
class Entry:
    """One call at the noise level `sigma`: what was added, in numbers that stay where they were computed.

    `size` is the norm of what was added relative to that of the target's prediction, `cosine` that of
    the angle between the two; both are means over the batch. `evaluated` is False where the delta was
    kept from an earlier call.
    """

    sigma: Tensor
    size: Tensor
    cosine: Tensor
    evaluated: bool


def sizes(entries: Sequence[Entry]) -> list[float]:
    """Return the sizes of entries as numbers, all read from the device at once."""
    return torch.stack([entry.size for entry in entries]).tolist() if entries else []


@dataclass(eq=False)
class Trace:
    """What a delta did in one run. `heat` is the mean size over channels, added up over the calls: [H, W]."""

    entries: list[Entry] = field(default_factory=list)
    heat: Tensor | None = None

    def record(self, sigma: Tensor, added: Tensor, prediction: Tensor, evaluated: bool) -> Entry:
        """Note that `added` was added to the target's `prediction`, both [B, C, ..., H, W], without waiting for it."""
        a, p = added.flatten(1), prediction.flatten(1)
        norms, whole = vector_norm(a, dim=1), vector_norm(p, dim=1).clamp(min=1e-12)
        cosine = (a * p).sum(1) / (norms * whole).clamp(min=1e-12)
        entry = Entry(sigma.flatten()[0], (norms / whole).mean(), cosine.mean(), evaluated)
        self.entries.append(entry)
        here = added.abs().flatten(0, -3).mean(0)
        if self.heat is None or self.heat.shape == here.shape:  # a sampler may also call at another size
            self.heat = here if self.heat is None else self.heat + here
        return entry

    def numbers(self) -> dict[str, list]:
        """Return the run as lists, one value a call: sigma, size, cosine, evaluated."""
        columns = {
            name: torch.stack([getattr(e, name) for e in self.entries]).tolist() if self.entries else []
            for name in ("sigma", "size", "cosine")
        }
        return columns | {"evaluated": [e.evaluated for e in self.entries]}
