"""Predictors: the host prepares a branch of a run, and hands it over in place of sampling it."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import comfy.hooks
import comfy.model_patcher
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..delta import Branch
from ..errors import DeltaError
from ..noise_levels import NoiseLevels, noise_to_signal
from ..prediction import Prediction
from .advice import explain
from .carried import KEY
from .hooks import with_own_schedules
from .latent_spaces import noise_levels
from .lending import lent
from .run_input import RunInput
from .weights import OwnWeights, own_weights


@dataclass(eq=False)
class Predictor:
    """What a branch predicts in one run. `open` makes it ready; until the run ends it then can be asked."""

    role: str
    branch: Branch
    patcher: ModelPatcher
    owner: ModelPatcher
    levels: NoiseLevels = field(init=False)
    weights: OwnWeights = field(init=False)
    guider: comfy.samplers.CFGGuider = field(init=False)
    model_options: dict = field(init=False)
    seed: int | None = field(init=False)

    def __post_init__(self):
        self.patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING, KEY, _already_loaded)
        self.levels = noise_levels(self.patcher, self.role)
        self.guider = BranchGuider(self.patcher)
        self.guider.set_conds(*with_own_schedules(*self.branch.prompts))
        self.guider.set_cfg(self.branch.cfg)

    def models(self) -> list[ModelPatcher]:
        """Return all that the host has to load for this branch."""
        extra, _ = comfy.sampler_helpers.get_additional_models(self.guider.original_conds, self.patcher.model_dtype())
        own = [self.patcher] if self.patcher is self.owner else []
        return own + extra + self.patcher.get_nested_additional_models()

    def open(self, run: RunInput, then: Callable[[], Any]) -> Any:
        """Return `then()`, called while it is open. The module has to be loaded."""
        self.weights = own_weights(self.role, self.patcher, self.owner)
        result, is_open = None, False

        def prepared(model_options):
            nonlocal result, is_open
            is_open = True
            self.model_options = model_options
            self.seed = run.seed
            # Hooks leave the module with their branch. The host would compute a lone one's weights anew at every call.
            self.patcher.set_hook_mode(comfy.hooks.EnumHookMode.MaxSpeed)
            preparing.close()
            result = then()

        with ExitStack() as preparing:
            preparing.enter_context(lent(self.weights))
            try:
                self.guider.sample(
                    run.noise,
                    run.latent_image,
                    _Handoff(prepared),
                    run.sigmas,
                    denoise_mask=run.denoise_mask,
                    disable_pbar=True,
                    seed=run.seed,
                )
            except Exception as error:
                if not is_open:
                    explain(error, (self.role, self.guider))
                raise
        return result

    def guide(self, sigma: Tensor) -> None:
        """Set the guidance of the next call, at the noise level `sigma` [B]."""
        if self.branch.guided is not None:
            low, high = self.branch.guided
            ratio = noise_to_signal(sigma.flatten()[0], self.levels).item()
            self.guider.set_cfg(self.branch.cfg if low <= ratio <= high else 1.0)

    def predict(self, x: Tensor, sigma: Tensor, with_uncond: bool = False) -> Prediction:
        """Return what it predicts at the noisy latent `x` [B, C, ...] and `sigma` [B]."""
        self.guide(sigma)
        guidance = GuidanceRecord(with_uncond)
        options = comfy.model_patcher.set_model_options_post_cfg_function(
            self.model_options.copy(), guidance, disable_cfg1_optimization=with_uncond
        )
        device = self.patcher.load_device
        try:
            with lent(self.weights):
                denoised = self.guider(x.to(device), sigma.to(device), model_options=options, seed=self.seed)
        except Exception as error:
            explain(error, (self.role, self.guider))
            raise
        return guidance.prediction(tensors_of(denoised, self.role)[0], x.device)


class BranchGuider(comfy.samplers.CFGGuider):
    """A guider that predicts as the host does, also while a pack has put its own method into the host's class."""

    predict_noise = comfy.samplers.CFGGuider.predict_noise


def tensors_of(found: Any, role: str) -> Sequence[Tensor]:
    """Return what a guider's `predict_noise` returned: one prediction, or the several of a pack that changes it.

    Raises DeltaError where that is anything else.
    """
    tensors = found if isinstance(found, tuple) else (found,)
    if not tensors or not all(map(torch.is_tensor, tensors)):
        kinds = ", ".join(type(each).__name__ for each in tensors) or "nothing"
        raise DeltaError(
            f"The {role} model's predict_noise returned {kinds}. A tensor was expected, or a tuple of tensors. Another "
            "pack has changed how this model predicts: take its node off the model, or leave the delta out."
        )
    return tensors


def open_all(predictors: Sequence[tuple[Predictor, RunInput]], then: Callable[[], Any]) -> Any:
    """Return `then()`, called while all of `predictors` are open, each with its own input."""
    if not predictors:
        return then()
    (first, run), *rest = predictors
    return first.open(run, lambda: open_all(rest, then))


class GuidanceRecord(dict):
    """A `sampler_post_cfg_function` that keeps the arguments of its last call, and changes nothing."""

    def __init__(self, with_uncond: bool):
        super().__init__()
        self.with_uncond = with_uncond

    def __call__(self, args: dict) -> Tensor:
        self.update(args)
        return args["denoised"]

    def prediction(self, denoised: Tensor, device: torch.device | None = None) -> Prediction:
        """Return `denoised`, with the unconditional part where that is asked for."""
        parts = (denoised, self["uncond_denoised"]) if self.with_uncond else (denoised,)
        return tuple(part.to(device) for part in parts)

    def with_deltas(self, prediction: Prediction, target: Prediction) -> dict:
        """Return the arguments as they are for a model that predicts `prediction` in place of `target`."""
        uncond = {"uncond_denoised": prediction[1]} if self.with_uncond else {}
        cond = self["cond_denoised"] + (prediction[0] - target[0])
        return {**self, **uncond, "cond_denoised": cond}


class _Handoff(comfy.samplers.Sampler):
    """A sampler that samples nothing: it passes on the model options the host has prepared."""

    def __init__(self, prepared: Callable[[dict], None]):
        self.prepared = prepared

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, *args, **kwargs):
        self.prepared(extra_args["model_options"])
        return noise


def _already_loaded(executor, model, noise_shape, conds, *args, **kwargs):
    """Prepare a branch without a second request to the memory manager: the target's covered it."""
    models, _ = comfy.sampler_helpers.get_additional_models(conds, model.model_dtype())
    return model.model, conds, models
