"""The transfer itself: a target model that adds deltas to every prediction it makes.

Nothing of the host is replaced. A clone of the target carries one wrapper, the host's own way to
extend sampling; whatever samples that model, with any sampler, mask or preview, samples with deltas.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key

from ..checks import require_finite
from ..delta import Delta
from .branches import KEY, open_all
from .call import Added, Call
from .checks import check_models, explained, require_inputs
from .crossings import run_of_branch
from .deltas import open_deltas
from .run_input import RunInput, run_input

Show = Callable[[Added], None]


def with_deltas(
    target: ModelPatcher, deltas: Sequence[Delta], watch: Callable[[int], Show | None] | None = None
) -> ModelPatcher:
    """Return a MODEL that samples as `target` does, plus `deltas` (arXiv 2512.03056).

    A delta of strength 0 is left out and costs nothing. `watch` is told the number of steps when a
    run starts; what it returns, if anything, is shown what each call of the target has added. Raises
    DeltaError where the models do not fit together.
    """
    deltas = [delta for delta in deltas if delta.strength != 0]
    if not deltas:
        return target
    check_models(target, deltas)

    def start_run(executor, *args, **kwargs):
        guider = executor.class_obj
        started_with = run_input(*args, **kwargs)
        require_inputs(guider, started_with, deltas)
        show = watch(len(started_with.sigmas) - 1) if watch else None
        run = _Run(guider, deltas, started_with, show)
        for kind, wrapper in run.wrappers().items():
            add_wrapper_with_key(kind, KEY, wrapper, guider.model_options, is_model_options=True)
        with explained(("target", guider), always=False):
            return executor(*args, **kwargs)

    model = target.clone()
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, start_run)
    return model


class _Run:
    """One sampling run: the branches it opens, and what it adds to the target's predictions."""

    def __init__(self, guider: Any, deltas: Sequence[Delta], started_with: RunInput, show: Show | None):
        self.target, self.started_with, self.show = guider.model_patcher, started_with, show
        self.deltas = open_deltas(guider, deltas, started_with)
        self.branches = list(dict.fromkeys(branch for delta in self.deltas for branch in delta.branches))
        self.bridge_models = [model for delta in deltas if delta.bridge for model in delta.bridge.models]
        self.post_cfg_before_sampler = len(guider.model_options.get("sampler_post_cfg_function", []))

    def wrappers(self) -> dict[str, Callable]:
        return {
            WrappersMP.PREPARE_SAMPLING: self.load_together,
            WrappersMP.SAMPLER_SAMPLE: self.sample_with_branches,
            WrappersMP.PREDICT_NOISE: self.predict,
        }

    def load_together(self, executor, model, *args, **kwargs):
        """Load every model of the run in the target's one request, so that none evicts another."""
        extras = [extra for branch in self.branches for extra in branch.models()]
        model.set_additional_models(KEY, extras + self.bridge_models)
        try:
            return executor(model, *args, **kwargs)
        finally:
            model.remove_additional_models(KEY)

    def sample_with_branches(self, executor, *args, **kwargs):
        crossings = {branch: opened.crossing for opened in self.deltas for branch in opened.branches}
        branches = [
            (branch, run_of_branch(crossings[branch], self.target, branch, self.started_with))
            for branch in self.branches
        ]
        return open_all(branches, lambda: executor(*args, **kwargs))

    def predict(self, executor, x, timestep, model_options, seed=None, **kwargs):
        """Return the target's denoised prediction plus all deltas, at the latent x [B, C, ...]."""
        post_cfg = model_options.get("sampler_post_cfg_function", [])
        by_sampler = post_cfg[self.post_cfg_before_sampler :]
        call = Call(self.deltas, x, timestep, bool(by_sampler), self.started_with.denoise_mask)
        if by_sampler:
            # CFG++ samplers step along the unconditional part, which a delta changes as well.
            def with_deltas(args: dict) -> dict:
                return {**args, "uncond_denoised": call.add_deltas(args["uncond_denoised"], args["denoised"], 1)}

            seen = [lambda args, function=function: function(with_deltas(args)) for function in by_sampler]
            kept = post_cfg[: self.post_cfg_before_sampler]
            model_options = {**model_options, "sampler_post_cfg_function": kept + seen}
        with explained(("target", executor.class_obj)):
            target = executor(call.x, timestep, model_options, seed, **kwargs)
        denoised = call.add_deltas(target, target, 0)
        if not torch.isfinite(denoised).all():
            sigma = timestep.flatten()[0].item()
            require_finite({"target": target, **call.by_role()}, denoised, sigma, self.started_with.sigmas)
        if self.show is not None:
            # The check above has waited for the device already.
            self.show(call.added())
        return denoised
