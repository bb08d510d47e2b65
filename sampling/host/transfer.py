"""The transfer itself: a target model that adds deltas to every prediction it makes.

Nothing of the host is replaced. A clone of the target carries one wrapper, the host's own way to
extend sampling; whatever samples that model, with any sampler, mask or preview, samples with deltas.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ..checks import require_finite
from ..delta import Delta, add_delta
from .branches import KEY, OpenBranch, open_all
from .checks import check_models, explained
from .crossings import open_crossing, placed, run_of_branch
from .run_input import RunInput, run_input
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
        run = _Run(guider, deltas, run_input(*args, **kwargs))
        for kind, wrapper in run.wrappers().items():
            add_wrapper_with_key(kind, KEY, wrapper, guider.model_options, is_model_options=True)
        return executor(*args, **kwargs)

    model = target.clone()
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, start_run)
    return model


class _Run:
    """One sampling run: the branches it opens, and what it adds to the target's predictions."""

    def __init__(self, guider: Any, deltas: Sequence[Delta], started_with: RunInput):
        self.target, self.started_with = guider.model_patcher, started_with
        self.post_cfg_before_sampler = len(guider.model_options.get("sampler_post_cfg_function", []))
        self.bridge_models = [model for delta in deltas if delta.bridge for model in delta.bridge.models]
        crossings = [open_crossing(self.target, delta, started_with) for delta in deltas]
        roles, branches = [], []
        for number, (delta, crossing) in enumerate(zip(deltas, crossings, strict=True), start=1):
            suffix = f" (delta {number})" if len(deltas) > 1 else ""
            for role, branch in (("source", delta.source), ("adapted", delta.adapted)):
                roles.append(role + suffix)
                branches.append(branch if crossing.maps is None else placed(branch, self.target, started_with))
        patchers = assign_owners(self.target, [branch.model for branch in branches])
        opened = [OpenBranch(*parts, *pair) for *parts, pair in zip(roles, branches, patchers, strict=True)]
        self.deltas = list(zip(deltas, crossings, opened[::2], opened[1::2], strict=True))

    def wrappers(self) -> dict[str, Callable]:
        return {
            WrappersMP.PREPARE_SAMPLING: self.load_together,
            WrappersMP.SAMPLER_SAMPLE: self.sample_with_branches,
            WrappersMP.PREDICT_NOISE: self.predict,
        }

    def load_together(self, executor, model, *args, **kwargs):
        """Load every model of the run in the target's one request, so that none evicts another."""
        extras = [extra for _, _, *branches in self.deltas for branch in branches for extra in branch.models()]
        model.set_additional_models(KEY, extras + self.bridge_models)
        try:
            return executor(model, *args, **kwargs)
        finally:
            model.remove_additional_models(KEY)

    def sample_with_branches(self, executor, *args, **kwargs):
        branches = [
            (branch, run_of_branch(crossing, self.target, branch, self.started_with))
            for _, crossing, *pair in self.deltas
            for branch in pair
        ]
        return open_all(branches, lambda: executor(*args, **kwargs))

    def predict(self, executor, x, timestep, model_options, seed=None, **kwargs):
        """Return the target's denoised prediction plus all deltas, at the latent x [B, C, ...]."""
        post_cfg = model_options.get("sampler_post_cfg_function", [])
        by_sampler = post_cfg[self.post_cfg_before_sampler :]
        predictions = {}

        def add_deltas(prediction: Tensor, clean: Tensor, part: int) -> Tensor:
            for delta, crossing, *pair in self.deltas:
                for branch in pair:
                    if branch not in predictions:
                        seen = crossing.seen_by(branch.levels, x, timestep, clean)
                        predictions[branch] = branch.predict(*seen, with_uncond=bool(by_sampler))
                source, adapted = (predictions[branch][part] for branch in pair)
                prediction = add_delta(prediction, crossing.delta(adapted, source), delta.strength)
            return prediction

        if by_sampler:
            # CFG++ samplers step along the unconditional part, which a delta changes as well.
            def with_deltas(args: dict) -> dict:
                return {**args, "uncond_denoised": add_deltas(args["uncond_denoised"], args["denoised"], 1)}

            seen = [lambda args, function=function: function(with_deltas(args)) for function in by_sampler]
            kept = post_cfg[: self.post_cfg_before_sampler]
            model_options = {**model_options, "sampler_post_cfg_function": kept + seen}
        with explained("target", executor.class_obj):
            target = executor(x, timestep, model_options, seed, **kwargs)
        denoised = add_deltas(target, target, 0)
        if not torch.isfinite(denoised).all():
            by_role = {branch.role: prediction for branch, (prediction, _) in predictions.items()}
            sigma = timestep.flatten()[0].item()
            require_finite({"target": target, **by_role}, denoised, sigma, self.started_with.sigmas)
        return denoised
