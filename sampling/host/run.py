"""A run: a target model that adds deltas to every prediction it makes.

Nothing of the host is replaced. A clone of the target carries one wrapper, the host's own way to
extend sampling; whatever samples that model, with any sampler, mask or preview, samples with deltas.
Where a branch of a delta is such a model itself, its run is inside of the target's.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from comfy.samplers import CFGGuider
from torch import Tensor

from ..call import Contributions, States, call
from ..delta import Deltas, role_names
from ..errors import require_finite
from ..prediction import TARGET, Prediction, Request
from ..trace import Trace, sizes
from .advice import check_models, explain, require_inputs
from .batching import predict
from .carried import KEY, Carrier, Layer, Watch, carried, take_off
from .deltas import Shared, open_deltas
from .found_bridges import with_bridges
from .predictors import GuidanceRecord, Predictor, open_all, tensors_of
from .run_input import RunInput, run_input, run_of_branch

# What the last run of each DELTA that was wired to a model has noted, delta by delta.
_traces: WeakKeyDictionary[Deltas, list[Trace]] = WeakKeyDictionary()


def last_traces(deltas: Deltas) -> list[Trace]:
    """Return what was noted of `deltas` in the last run that was started with them, nothing if there was none."""
    return _traces.get(deltas, [])


def with_deltas(target: ModelPatcher, deltas: Deltas, watch: Watch | None = None) -> ModelPatcher:
    """Return a MODEL that samples as `target` does, plus `deltas` (arXiv 2512.03056).

    A delta of strength 0 is left out and costs nothing. Deltas that `target` carries already stay. `watch` is
    told of each run (`Layer`). Raises DeltaError where the models do not fit together.
    """
    acting = [delta for delta in deltas if delta.strength != 0]
    if not acting:
        return target
    check_models(target, acting)
    model = target.clone()
    layers = *carried(model), Layer(deltas, with_bridges(target, acting), watch)
    take_off(model)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, Carrier(layers, _start_run))
    return model


def _start_run(layers: Sequence[Layer], executor, *args, **kwargs):
    guider = executor.class_obj
    run = _Run("target", guider, layers, run_input(*args, **kwargs), Shared(guider, layers))
    wrappers = {WrappersMP.PREPARE_SAMPLING: run.load_together, **run.wrappers()}
    for kind, wrapper in wrappers.items():
        add_wrapper_with_key(kind, KEY, wrapper, guider.model_options, is_model_options=True)
    try:
        return executor(*args, **kwargs)
    except Exception as error:
        explain(error, ("target", guider), always=False)
        raise


class _Run:
    """One sampling run of the model in a `role`: the predictors it opens, and what it adds to the predictions."""

    def __init__(
        self,
        role: str,
        guider: CFGGuider,
        layers: Sequence[Layer],
        started_with: RunInput,
        shared: Shared,
        outer: "_Run | None" = None,
    ):
        acting = [delta for layer in layers for delta in layer.acting]
        names = role_names(acting, role)
        require_inputs(guider, started_with, acting, names)
        self.role, self.target, self.started_with, self.outer = role, guider.model_patcher, started_with, outer
        self.mask = started_with.denoise_mask
        self.combine = [layer.wired.combine for layer in layers]
        self.deltas = open_deltas(self.target, layers, names, started_with, shared)
        self.shows = [layer.watch(len(started_with.sigmas) - 1) if layer.watch else None for layer in layers]
        self.states: States = {}
        self.traces = {delta: Trace() for delta in self.deltas}
        for number, layer in enumerate(layers):
            _traces[layer.wired] = [trace for delta, trace in self.traces.items() if delta.layer == number]
        self.opened: dict[Predictor, RunInput] = {}
        for delta in self.deltas:
            for each in filter(None, (delta.source, delta.adapted)):
                self.opened[each] = run_of_branch(delta.mapping, self.target, each.patcher, each.levels, started_with)
        self.bridge_models = [model for delta in acting if (bridge := delta.view.bridge) for model in bridge.models]
        self.inside = [
            _Run(each.role, each.guider, own, run, shared, self)
            for each, run in self.opened.items()
            if (own := carried(each.branch.model))
        ]
        self.is_lossy: bool = any(delta.is_lossy for delta in self.deltas) or any(run.is_lossy for run in self.inside)
        self.post_cfg_before_sampler = len(guider.model_options.get("sampler_post_cfg_function", []))

    def wrappers(self) -> dict[str, Callable]:
        return {WrappersMP.SAMPLER_SAMPLE: self.sample_with_branches, WrappersMP.PREDICT_NOISE: self.predict}

    def models(self) -> Iterator[ModelPatcher]:
        """Return all that has to be loaded for the deltas of this run, and of those inside of it."""
        for predictor in self.opened:
            yield from predictor.models()
        yield from self.bridge_models
        for run in self.inside:
            yield from run.models()

    def load_together(self, executor, model, *args, **kwargs):
        """Load every model of the run in the target's one request, so that none evicts another."""
        model.set_additional_models(KEY, list(self.models()))
        try:
            return executor(model, *args, **kwargs)
        finally:
            model.remove_additional_models(KEY)

    def sample_with_branches(self, executor, *args, **kwargs):
        with ExitStack() as inside:
            for run in self.inside:
                for kind, wrapper in run.wrappers().items():
                    run.target.add_wrapper_with_key(kind, KEY, wrapper)
                    inside.callback(run.target.remove_wrappers_with_key, kind, KEY)
            return open_all(list(self.opened.items()), lambda: executor(*args, **kwargs))

    def predict(self, executor, x, timestep, model_options, seed=None, **kwargs):
        """Return the target's denoised prediction plus all deltas, at the latent x [B, C, ...]."""
        post_cfg = model_options.get("sampler_post_cfg_function", [])
        own, to_tell = post_cfg[: self.post_cfg_before_sampler], post_cfg[self.post_cfg_before_sampler :]
        # CFG++ samplers step along the unconditional part, which a delta changes as well.
        with_uncond = any(not isinstance(function, GuidanceRecord) or function.with_uncond for function in to_tell)
        guidance = GuidanceRecord(with_uncond)
        model_options = {**model_options, "sampler_post_cfg_function": [*own, guidance]}
        by_role: dict[str, Tensor] = {}
        others: Sequence[Tensor] = ()

        def predict_target(request: Request) -> dict[Hashable, Prediction]:
            nonlocal others
            try:
                found = executor(request.x, request.sigma, model_options, seed, **kwargs)
            except Exception as error:
                explain(error, (self.role, executor.class_obj))
                raise
            denoised, *others = tensors_of(found, self.role)
            return {TARGET: guidance.prediction(denoised)}

        def evaluate(requests: Sequence[Request]) -> dict[Hashable, Prediction]:
            found: dict[Hashable, Prediction] = {}
            for request in requests:
                is_target = request.models == (TARGET,)
                found.update(predict_target(request) if is_target else predict(request, with_uncond))
            by_role.update((getattr(model, "role", self.role), parts[0]) for model, parts in found.items())
            return found

        self.mask = self.step_mask(executor.class_obj, timestep, model_options)
        result = call(self.deltas, self.combine, self.states, x, timestep, evaluate, self.mask)
        denoised = result.prediction[0]
        for function in to_tell:
            denoised = function({**guidance.with_deltas(result.prediction, result.target), "denoised": denoised})
        if not torch.isfinite(denoised).all():
            require_finite(by_role, denoised, timestep.flatten()[0].item(), self.started_with.sigmas)
        self.states = result.states
        for delta, contribution in result.contributions.items():
            self.traces[delta].record(timestep, contribution.applied[0], result.target[0], contribution.evaluated)
        if any(self.shows):
            # The check above has waited for the device already.
            self.show(result.contributions)
        # Some packs predict twice at once, with two scales of guidance.
        return (denoised, *(other + (denoised - result.target[0]) for other in others)) if others else denoised

    def step_mask(self, guider: CFGGuider, sigma: Tensor, model_options: dict) -> Any:
        """Return what the sampler denoises in this call: 1, and 0 where it keeps the latent image."""
        if self.outer is not None:
            return self.outer.mask
        mask, change = self.started_with.denoise_mask, model_options.get("denoise_mask_function")
        if mask is None or change is None or not self.is_lossy:
            return mask
        return change(sigma, mask, extra_options={"model": guider, "sigmas": self.started_with.sigmas})

    def show(self, contributions: Contributions) -> None:
        found = sizes([self.traces[delta].entries[-1] for delta in contributions])
        added = {
            delta: (size, each.evaluated) for (delta, each), size in zip(contributions.items(), found, strict=True)
        }
        for number, show in enumerate(self.shows):
            if show is not None:
                show([added.get(delta) for delta in self.deltas if delta.layer == number])
