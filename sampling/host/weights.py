"""The weights of a borrower: those that it wants on a module that another patcher has loaded.

ComfyUI keeps one set of patched weights per module. A layer that is loaded holds them as numbers; one
that is offloaded holds the plain weights, and functions that patch them when they are used. A borrower
needs its own of both. They change places with the owner's as they are: nothing is copied or computed
from call to call. Where they may lie elsewhere, as patchers of other packs keep them, the patchers
change places as they do between two runs of the host: one unloads what it loaded, the other loads.
"""

from functools import cached_property
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy.model_patcher import LowVramPatch, MemoryCounter, ModelPatcher

from ..errors import DeltaError

# The methods that decide where the weights and patches of a model are.
PATCHING = ("load", "partially_load", "partially_unload", "patch_model", "patch_weight_to_device", "unpatch_model")


def patched_by_host(patcher: ModelPatcher, *methods: str) -> bool:
    """Say whether it is the host's own code that patches and unpatches the weights of `patcher`."""
    return all(getattr(patcher, name).__module__ == comfy.model_patcher.__name__ for name in methods or PATCHING)


def own_weights(role: str, patcher: ModelPatcher, owner: ModelPatcher) -> "OwnWeights":
    """Return what `patcher`, of the model in a `role`, wants on the module that `owner` has loaded."""
    if patcher.patches_uuid == owner.patches_uuid:
        return OwnWeights(patcher, owner)
    cast_alike = patcher.force_cast_weights == owner.force_cast_weights
    if cast_alike and patched_by_host(patcher) and patched_by_host(owner):
        return SwappedWeights(patcher, owner)
    return ReloadedWeights(role, patcher, owner)


class OwnWeights:
    """What `patcher` wants on the module that its `owner` has loaded: where both patch alike, what is there."""

    def __init__(self, patcher: ModelPatcher, owner: ModelPatcher):
        self.patcher, self.owner = patcher, owner

    def put_in(self) -> None:
        """Put the weights of the borrower in place of the owner's."""

    def take_out(self) -> None:
        """Put the owner's back."""


class ReloadedWeights(OwnWeights):
    """Weights that the patchers themselves unload and load, in the share of memory that the owner has."""

    def __init__(self, role: str, patcher: ModelPatcher, owner: ModelPatcher):
        super().__init__(patcher, owner)
        self._role = role
        module: Any = owner.model
        is_part = module.model_lowvram
        self._memory = owner.loaded_size() + module.model_offload_buffer_memory if is_part else 1e32

    def put_in(self) -> None:
        self._reload(self.owner, self.patcher)

    def take_out(self) -> None:
        self._reload(self.patcher, self.owner)

    def _reload(self, before: ModelPatcher, after: ModelPatcher) -> None:
        self._require_way_back(before)
        # Without a device, what is loaded stays there.
        before.unpatch_model()
        after.partially_load(after.load_device, self._memory)

    def _require_way_back(self, patcher: ModelPatcher) -> None:
        """Raise DeltaError if `patcher` has patched a weight without a backup or a function: for good."""
        if not patched_by_host(patcher, "unpatch_model"):
            return
        for key in patcher.patches:
            layer, name = comfy.utils.resolve_attr(patcher.model, key)
            in_use = getattr(layer, "comfy_patched_weights", False) or hasattr(layer, "prev_comfy_cast_weights")
            if in_use and key not in patcher.backup and not getattr(layer, f"{name}_function", ()):
                raise DeltaError(
                    f"The {self._role} model shares its weights with another model of this run that has other patches "
                    f"(a LoRA, say). Its class {type(patcher).__name__}, of another pack, has patched {key} and kept "
                    "no backup; a backup, or an unpatch_model of its own, was expected. Load the model anew, and one "
                    "of the two from a copy of its file under another name: they then share nothing."
                )


class SwappedWeights(OwnWeights):
    """Weights that change places with the owner's, wherever one of the two has patches."""

    def __init__(self, patcher: ModelPatcher, owner: ModelPatcher):
        super().__init__(patcher, owner)
        keys: dict[str, None] = {}
        for each in (owner, patcher):
            keys |= dict.fromkeys([*each.patches, *each.weight_wrapper_patches])
        self._places = {key: comfy.utils.resolve_attr(patcher.model, key) for key in keys}
        self._reshaped = {key for key, place in self._places.items() if self._is_reshaped(key, *place)}
        self._loaded: dict[str, torch.nn.Parameter | None] = {}
        self._displaced: list[tuple[torch.nn.Module, str, Any]] = []

    @cached_property
    def _room(self) -> MemoryCounter:
        """What is left for a second set of weights once all models of the run are loaded."""
        free = comfy.model_management.get_free_memory(self.patcher.load_device)
        return MemoryCounter(free, 2 * comfy.model_management.minimum_inference_memory())

    def put_in(self) -> None:
        for key, (layer, name) in self._places.items():
            for attribute, value in self._wanted(key, layer, name).items():
                self._displaced.append((layer, attribute, getattr(layer, attribute)))
                setattr(layer, attribute, value)

    def take_out(self) -> None:
        while self._displaced:
            setattr(*self._displaced.pop())

    def _wanted(self, key: str, layer: torch.nn.Module, name: str) -> dict[str, Any]:
        """Return the attributes of `layer` that make up one weight: itself, and how the layer takes it."""
        can_offload = hasattr(layer, "comfy_cast_weights")
        functions = list(self.patcher.weight_wrapper_patches.get(key, ()))
        # Models look at the shape of a weight: a function that changes it would come too late.
        reshaped = key in self._reshaped
        if reshaped or getattr(layer, "comfy_patched_weights", False):
            if key not in self._loaded:
                self._loaded[key] = self._loaded_alone(key, layer, name, can_offload and not reshaped)
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

    def _is_reshaped(self, key: str, layer: torch.nn.Module, name: str) -> bool:
        """Say whether the borrower's patches change the shape of a weight."""
        plain = self._plain(key, layer, name)
        return tuple(comfy.lora.calculate_shape(self.patcher.patches.get(key, ()), plain, key)) != tuple(plain.shape)

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
