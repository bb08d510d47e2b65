"""Ways in which the host keeps models in memory, on a machine that has room for all."""

from contextlib import ExitStack, contextmanager
from functools import partial
from unittest import mock

import comfy.model_management
import comfy.model_patcher
import comfy_aimdo.host_buffer
import comfy_aimdo.model_vbar
import torch
from comfy.model_patcher import ModelPatcher

from .tiny import CPU, model

DYNAMIC_DEVICE = torch.device("cpu", 0)


def unload() -> None:
    """Unload every model, on every device."""
    for device in (CPU, DYNAMIC_DEVICE):
        comfy.model_management.free_memory(1e30, device)


@contextmanager
def partly_loaded(share: float):
    """Let the host load `share` of every model, by its own code for cards that are too small; 1 is all of it."""
    load = comfy.model_management.LoadedModel.model_load

    def load_share(self, lowvram_model_memory=0, force_patch_weights=False):
        return load(self, share * self.model.model_size() if share < 1 else 0, force_patch_weights)

    unload()
    with mock.patch.object(comfy.model_management.LoadedModel, "model_load", load_share):
        yield
        unload()


class _Allocator:
    """In place of comfy_aimdo's allocator of device memory: hands out addresses that nothing lies at."""

    def __init__(self, size, device):
        self.offset = 0

    def alloc(self, size):
        self.offset += size
        return self, self.offset - size, size

    def prioritize(self, *args):
        pass

    def fault(self, offset, size):
        """Say that there is no room: the host then uses memory of the call's own. Older hosts ask on the CPU too."""

    def unpin(self, offset, size):
        pass

    def loaded_size(self):
        return 0

    def free_memory(self, size):
        return 0


class _Pins:
    """In place of comfy_aimdo's pinned memory: holds nothing."""

    def __init__(self, size, *args):
        self.size = size


@contextmanager
def dynamic_memory():
    """Let the host's dynamic memory run on DYNAMIC_DEVICE, which is the CPU under another name.

    Layers of at most 16 kB are loaded as on a card. Larger ones newer hosts do not stream from the CPU to itself, but
    use them unpatched: a LoRA has to keep to the small ones.
    """

    unload()
    with ExitStack() as replaced:
        for place, name, replacement in (
            (comfy.model_management, "is_device_cpu", lambda device: False),
            (comfy_aimdo.model_vbar, "ModelVBAR", _Allocator),
            (comfy_aimdo.host_buffer, "HostBuffer", _Pins),
        ):
            replaced.enter_context(mock.patch.object(place, name, replacement))
        yield
        unload()


def dynamic_model(seed: int, *kind, disable_dynamic: bool = False, **unet) -> ModelPatcher:
    """Return a tiny model as a loader of the host makes it under dynamic memory: it knows how it was loaded."""
    plain = model(seed, *kind, channel_mult=[1, 1], **unet)
    patcher_class = ModelPatcher if disable_dynamic else comfy.model_patcher.ModelPatcherDynamic
    patcher = patcher_class(plain.model, DYNAMIC_DEVICE, CPU)
    patcher.cached_patcher_init = (partial(dynamic_model, **unet), (seed, *kind))
    return patcher
