"""The transfer itself: a target model that adds deltas to every prediction it makes.

Nothing of the host is replaced. A clone of the target carries one wrapper, the host's own way to
extend sampling; whatever samples that model, with any sampler, mask or preview, samples with deltas.
"""

from collections.abc import Callable, Sequence
from typing import Any

import comfy.nested_tensor
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ..checks import require_finite
from ..delta import Delta, add_delta
from .branches import KEY, OpenBranch, RunInput, open_all
from .checks import check_models, explained
from .weights import assign_owners


def with_deltas(target: ModelPatcher, deltas: Sequence[Delta]) -> ModelPatcher:
    """Return a MODEL that samples as `target` does, plus `deltas` (arXiv 2512.03056).

    A delta of strength 0 is left out and costs nothing. Raises DeltaError where the models do
    not fit together.
    """
    deltas = [delta for delta in deltas if delta.strength != 0]
    if not deltas:
        return target
    check_models(target, deltas)

    def start_run(executor, *args, **kwargs):
        guider = executor.class_obj
        run = _Run(guider, deltas, _run_input(*args, **kwargs))
        for kind, wrapper in run.wrappers().items():
            add_wrapper_with_key(kind, KEY, wrapper, guider.model_options, is_model_options=True)
        return executor(*args, **kwargs)

    model = target.clone()
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, start_run)
    return model


class _Run:
    """One sampling run: the branches it opens, and what it adds to the target's predictions."""

    def __init__(self, guider: Any, deltas: Sequence[Delta], started_with: RunInput):
        self.started_with = started_with
        branches = []
        for number, delta in enumerate(deltas, start=1):
            suffix = f" (delta {number})" if len(deltas) > 1 else ""
            branches += [(f"source{suffix}", delta.source), (f"adapted{suffix}", delta.adapted)]
        patchers = assign_owners(guider.model_patcher, [branch.model for _, branch in branches])
        self.branches = [
            OpenBranch(role, branch, *pair) for (role, branch), pair in zip(branches, patchers, strict=True)
        ]
        self.deltas = [
            (delta.strength, source, adapted)
            for delta, source, adapted in zip(deltas, self.branches[::2], self.branches[1::2], strict=True)
        ]
        self.post_cfg_before_sampler = len(guider.model_options.get("sampler_post_cfg_function", []))

    def wrappers(self) -> dict[str, Callable]:
        return {
            WrappersMP.PREPARE_SAMPLING: self.load_together,
            WrappersMP.SAMPLER_SAMPLE: self.sample_with_branches,
            WrappersMP.PREDICT_NOISE: self.predict,
        }

    def load_together(self, executor, model, *args, **kwargs):
        """Load every model of the run in the target's one request, so that none evicts another."""
        model.set_additional_models(KEY, [extra for branch in self.branches for extra in branch.models()])
        try:
            return executor(model, *args, **kwargs)
        finally:
            model.remove_additional_models(KEY)

    def sample_with_branches(self, executor, *args, **kwargs):
        return open_all(self.branches, self.started_with, lambda: executor(*args, **kwargs))

    def predict(self, executor, x, timestep, model_options, seed=None, **kwargs):
        """Return the target's denoised prediction plus all deltas, at the latent x [B, C, ...]."""
        post_cfg = model_options.get("sampler_post_cfg_function", [])
        by_sampler = post_cfg[self.post_cfg_before_sampler :]
        with_uncond = bool(by_sampler)
        predictions = {branch: branch.predict(x, timestep, with_uncond) for branch in self.branches}

        def add_deltas(prediction: Tensor, part: int) -> Tensor:
            for strength, source, adapted in self.deltas:
                prediction = add_delta(prediction, predictions[adapted][part], predictions[source][part], strength)
            return prediction

        if by_sampler:
            # CFG++ samplers step along the unconditional part, which a delta changes as well.
            seen = [_seeing_uncond(function, lambda uncond: add_deltas(uncond, 1)) for function in by_sampler]
            kept = post_cfg[: self.post_cfg_before_sampler]
            model_options = {**model_options, "sampler_post_cfg_function": kept + seen}
        with explained("target", executor.class_obj):
            target = executor(x, timestep, model_options, seed, **kwargs)
        denoised = add_deltas(target, 0)
        if not torch.isfinite(denoised).all():
            by_role = {branch.role: prediction for branch, (prediction, _) in predictions.items()}
            results = {"target": target, **by_role, "target plus delta": denoised}
            require_finite(results, timestep.flatten()[0].item(), self.started_with.sigmas)
        return denoised


def _seeing_uncond(function: Callable[[dict], Tensor], change: Callable[[Tensor], Tensor]) -> Callable[[dict], Tensor]:
    return lambda args: function({**args, "uncond_denoised": change(args["uncond_denoised"])})


def _run_input(
    noise,
    latent_image,
    sampler,
    sigmas,
    denoise_mask=None,
    callback=None,
    disable_pbar=False,
    seed=None,
    latent_shapes=(),
    **kwargs,
) -> RunInput:
    """Return, from the arguments of `outer_sample`, what was asked for before the host packed and repeated it."""
    # A mask is repeated over the channels of its latent: one of them says it all.
    if len(latent_shapes) <= 1:
        mask = None if denoise_mask is None else denoise_mask[:, :1]
        return RunInput(noise, latent_image, sigmas, mask, seed)

    def nested(packed: Tensor, channels: slice = slice(None)) -> comfy.nested_tensor.NestedTensor:
        parts = comfy.utils.unpack_latents(packed, latent_shapes)
        return comfy.nested_tensor.NestedTensor([part[:, channels] for part in parts])

    mask = None if denoise_mask is None else nested(denoise_mask, slice(1))
    return RunInput(nested(noise), nested(latent_image), sigmas, mask, seed)
