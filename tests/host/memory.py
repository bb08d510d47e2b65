"""Ways in which the host keeps models in memory, on a machine that has room for all."""

from contextlib import contextmanager
from unittest import mock

import comfy.model_management


@contextmanager
def partly_loaded(share: float):
    """Let the host load `share` of every model, by its own code for cards that are too small; 1 is all of it."""
    load = comfy.model_management.LoadedModel.model_load

    def load_share(self, lowvram_model_memory=0, force_patch_weights=False):
        return load(self, share * self.model.model_size() if share < 1 else 0, force_patch_weights)

    comfy.model_management.unload_all_models()
    with mock.patch.object(comfy.model_management.LoadedModel, "model_load", load_share):
        yield
        comfy.model_management.unload_all_models()
