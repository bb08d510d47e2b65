"""A run: a target model that adds deltas to every prediction it makes.

Nothing of the host is replaced. A clone of the target carries one wrapper, the host's own way to
extend sampling; whatever samples that model, with any sampler, mask or preview, samples with deltas.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ..call import TARGET, Parts, Requests, Term, call
from ..delta import Delta, Deltas
from ..errors import require_finite
from ..in_run import DeltaInRun
from ..trace import Trace, sizes
from .advice import check_models, explain, require_inputs
from .batching import predict
from .deltas import open_deltas
from .found_bridges import with_bridges
from .predictors import KEY, Predictor, open_all
from .run_input import RunInput, run_input, run_of_branch

# Of each delta what a call added, its size and whether it was evaluated; None where the delta did not act.
Added = list[tuple[float, bool] | None]
Show = Callable[[Added], None]

# What the last run of each DELTA that was wired to a sampler has noted, delta by delta.
_traces: WeakKeyDictionary[Deltas, list[Trace]] = WeakKeyDictionary()


def last_traces(deltas: Deltas) -> list[Trace]:
    """Return what was noted of `deltas` in the last run that was started with them, nothing if there was none."""
    return _traces.get(deltas, [])


def with_deltas(
    target: ModelPatcher, deltas: Deltas, watch: Callable[[int], Show | None] | None = None
) -> ModelPatcher:
    """Return a MODEL that samples as `target` does, plus `deltas` (arXiv 2512.03056).

    A delta of strength 0 is left out and costs nothing. `watch` is told the number of steps when a
    run starts; what it returns, if anything, is shown what each call of the target has added. Raises
    DeltaError where the models do not fit together.
    """
    acting = [delta for delta in deltas if delta.strength != 0]
    if not acting:
        return target
    check_models(target, acting)
    acting = with_bridges(target, acting)

    def start_run(executor, *args, **kwargs):
        guider = executor.class_obj
        started_with = run_input(*args, **kwargs)
        require_inputs(guider, started_with, acting)
        show = watch(len(started_with.sigmas) - 1) if watch else None
        run = _Run(guider, acting, deltas.combine, started_with, show)
        _traces[deltas] = [delta.trace for delta in run.deltas]
        for kind, wrapper in run.wrappers().items():
            add_wrapper_with_key(kind, KEY, wrapper, guider.model_options, is_model_options=True)
        try:
            return executor(*args, **kwargs)
        except Exception as error:
            explain(error, ("target", guider), always=False)
            raise

    model = target.clone()
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, start_run)
    return model


class _Run:
    """One sampling run: the predictors it opens, and what it adds to the target's predictions."""

    def __init__(
        self, guider: Any, deltas: Sequence[Delta], combine: Callable, started_with: RunInput, show: Show | None
    ):
        self.target, self.combine, self.started_with, self.show = guider.model_patcher, combine, started_with, show
        self.deltas: list[DeltaInRun] = open_deltas(guider, deltas, started_with)
        self.crossings = {
            predictor: delta.crossing
            for delta in self.deltas
            for predictor in (delta.source, delta.adapted)
            if predictor is not None
        }
        self.bridge_models = [model for delta in deltas if (bridge := delta.view.bridge) for model in bridge.models]
        self.post_cfg_before_sampler = len(guider.model_options.get("sampler_post_cfg_function", []))

    def wrappers(self) -> dict[str, Callable]:
        return {
            WrappersMP.PREPARE_SAMPLING: self.load_together,
            WrappersMP.SAMPLER_SAMPLE: self.sample_with_branches,
            WrappersMP.PREDICT_NOISE: self.predict,
        }

    def load_together(self, executor, model, *args, **kwargs):
        """Load every model of the run in the target's one request, so that none evicts another."""
        extras = [extra for predictor in self.crossings for extra in predictor.models()]
        model.set_additional_models(KEY, extras + self.bridge_models)
        try:
            return executor(model, *args, **kwargs)
        finally:
            model.remove_additional_models(KEY)

    def sample_with_branches(self, executor, *args, **kwargs):
        opened = [
            (each, run_of_branch(crossing, self.target, each.patcher, each.levels, self.started_with))
            for each, crossing in self.crossings.items()
        ]
        return open_all(opened, lambda: executor(*args, **kwargs))

    def predict(self, executor, x, timestep, model_options, seed=None, **kwargs):
        """Return the target's denoised prediction plus all deltas, at the latent x [B, C, ...]."""
        post_cfg = model_options.get("sampler_post_cfg_function", [])
        by_sampler = post_cfg[self.post_cfg_before_sampler :]
        guided: dict[str, Any] = {}
        if by_sampler:
            # CFG++ samplers step along the unconditional part, which a delta changes as well.
            kept = [*post_cfg[: self.post_cfg_before_sampler], partial(_keep, guided)]
            model_options = {**model_options, "sampler_post_cfg_function": kept}
        seen: dict[str, Tensor] = {}

        def evaluate(requests: Requests) -> Sequence[Parts]:
            found: list[Parts]
            who, at, sigma = requests[0]
            if who is TARGET:
                try:
                    denoised = executor(at, sigma, model_options, seed, **kwargs)
                except Exception as error:
                    explain(error, ("target", executor.class_obj))
                    raise
                found = [(denoised, guided["uncond_denoised"]) if by_sampler else (denoised,)]
            else:
                found = predict(requests, bool(by_sampler))
            for (who, *_), (denoised, *_) in zip(requests, found, strict=True):
                seen[who.role if isinstance(who, Predictor) else who] = denoised
            return found

        mixed, target, terms = call(self.deltas, self.combine, x, timestep, evaluate, self.started_with.denoise_mask)
        denoised = mixed[0]
        for function in by_sampler:
            denoised = function({**guided, "denoised": denoised, "uncond_denoised": mixed[1]})
        if not torch.isfinite(denoised).all():
            require_finite(seen, denoised, timestep.flatten()[0].item(), self.started_with.sigmas)
        for term in terms:
            term.delta.note(term, timestep, target[0])
        if self.show is not None:
            # The check above has waited for the device already.
            self.show(self.added(terms))
        return denoised

    def added(self, terms: Sequence[Term]) -> Added:
        found = sizes([term.delta.trace.entries[-1] for term in terms])
        shown = {term.delta: (size, term.evaluated) for term, size in zip(terms, found, strict=True)}
        return [shown.get(delta) for delta in self.deltas]


def _keep(guided: dict, args: dict) -> Tensor:
    """A function after the guidance that notes what the sampler's own is to be told, and changes nothing."""
    guided.update(args)
    return args["denoised"]
