"""The weights of a borrower: those that it wants on a module that another patcher has loaded.

ComfyUI keeps one set of patched weights per module. A layer that is loaded holds them as numbers; one
that is offloaded holds the plain weights, and functions that patch them when they are used. A borrower
needs its own of both. They change places with the owner's as they are: nothing is copied or computed
from call to call.
"""

from functools import cached_property
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy.model_patcher import LowVramPatch, MemoryCounter, ModelPatcher


class OwnWeights:
    """What `patcher` wants in the places of the module that it or its `owner`, who has loaded it, patches."""

    def __init__(self, patcher: ModelPatcher, owner: ModelPatcher):
        self.patcher, self.owner = patcher, owner
        keys: dict[str, None] = {}
        # As long as both patch alike, what the owner has loaded is what the borrower wants.
        if patcher.patches_uuid != owner.patches_uuid:
            for each in (owner, patcher):
                keys |= dict.fromkeys([*each.patches, *each.weight_wrapper_patches])
        self._places = {key: comfy.utils.resolve_attr(patcher.model, key) for key in keys}
        self._loaded: dict[str, torch.nn.Parameter | None] = {}
        self._displaced: list[tuple[torch.nn.Module, str, Any]] = []

    @cached_property
    def _room(self) -> MemoryCounter:
        """What is left for a second set of weights once all models of the run are loaded."""
        free = comfy.model_management.get_free_memory(self.patcher.load_device)
        return MemoryCounter(free, 2 * comfy.model_management.minimum_inference_memory())

    def put_in(self) -> None:
        """Put the weights and functions of the borrower in place of the owner's."""
        for key, (layer, name) in self._places.items():
            for attribute, value in self._wanted(key, layer, name).items():
                self._displaced.append((layer, attribute, getattr(layer, attribute)))
                setattr(layer, attribute, value)

    def take_out(self) -> None:
        """Put the owner's back."""
        while self._displaced:
            setattr(*self._displaced.pop())

    def _wanted(self, key: str, layer: torch.nn.Module, name: str) -> dict[str, Any]:
        """Return the attributes of `layer` that make up one weight: itself, and how the layer takes it."""
        can_offload = hasattr(layer, "comfy_cast_weights")
        functions = list(self.patcher.weight_wrapper_patches.get(key, ()))
        if getattr(layer, "comfy_patched_weights", False):
            if key not in self._loaded:
                self._loaded[key] = self._loaded_alone(key, layer, name, can_offload)
            if (weight := self._loaded[key]) is not None:
                return {name: weight, f"{name}_function": functions} if can_offload else {name: weight}
        weight = self._plain(key, layer, name)
        if not can_offload:
            return {name: weight}
        if key in self.patcher.patches:
            functions.insert(0, LowVramPatch(key, self.patcher.patches))
        return {name: weight, f"{name}_function": functions, "comfy_cast_weights": True}

    def _plain(self, key: str, layer: torch.nn.Module, name: str) -> torch.nn.Parameter:
        """Return the weight that nobody has patched."""
        backup = self.owner.backup.get(key)
        return getattr(layer, name) if backup is None else torch.nn.Parameter(backup.weight, requires_grad=False)

    def _loaded_alone(
        self, key: str, layer: torch.nn.Module, name: str, can_offload: bool
    ) -> torch.nn.Parameter | None:
        """Return the weight as the host loads it for the borrower alone, rounding included; None if it has no room."""
        present, plain = getattr(layer, name), self._plain(key, layer, name)
        if not self._room.use(plain) and can_offload:
            return None
        weight, device = plain, self.patcher.load_device
        if key in self.patcher.patches:
            try:
                setattr(layer, name, plain)
                weight = self.patcher.patch_weight_to_device(key, device_to=device, return_weight=True)
            finally:
                setattr(layer, name, present)
        return torch.nn.Parameter(weight.to(device), requires_grad=False)
