"""Predictors asked together: in one batched model call where they are one model that differs in its prompts alone."""

import math
from collections.abc import Hashable
from typing import Any

import comfy.controlnet
import comfy.model_patcher
import comfy.samplers
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher

from ..prediction import Prediction, Request
from .advice import explain
from .lending import lent
from .predictors import GuidanceRecord, Predictor


def predict(request: Request, with_uncond: bool) -> dict[Hashable, Prediction]:
    """Return what each predictor of a request predicts there, as `Predictor.predict` does."""
    models: Any = request.models
    if len(models) == 2 and go_together(*models):
        return predict_together(request, with_uncond)
    return {predictor: predictor.predict(request.x, request.sigma, with_uncond) for predictor in models}


def go_together(source: Predictor, adapted: Predictor) -> bool:
    """Say whether two open predictors may share a model call: where no one is there who could tell.

    A call then has rows of four conditionings, which patches, controls and some models take for two. What
    looks at a call comes to it in three ways: with the model's class, on the MODEL, or on the prompts. So
    the class has to be one whose rows are known not to know each other, and the other two have to be bare.
    """
    conds = [cond for branch in (source, adapted) for conds in branch.guider.conds.values() for cond in conds]
    model = source.branch.model
    return adapted.branch.model is model and _is_unet(model) and _is_bare(model) and not any(map(_looks_at_rows, conds))


def _is_unet(model: ModelPatcher) -> bool:
    """Say whether a model is an SD1.x, SD2.x or SDXL of the host; larger ones gain little from larger batches."""
    return type(model.model.diffusion_model) is UNetModel


def _is_bare(model: ModelPatcher) -> bool:
    """Say whether no code has been put on a MODEL, by whatever way; other weights (a LoRA) see no rows."""
    options = {**model.model_options, **model.model_options.get("transformer_options", {}), "transformer_options": None}
    calls = (*model.wrappers.values(), *model.callbacks.values())
    return not any((*options.values(), *calls, model.object_patches, model.injections))


def _looks_at_rows(cond: dict) -> bool:
    """Say whether a prompt carries code: hooks, GLIGEN, or a control that is not the host's own."""
    control = cond.get("control")
    while control is not None and type(control).__module__ == comfy.controlnet.__name__:
        control = control.previous_controlnet
    return bool(control or cond.get("hooks") or cond.get("gligen"))


def predict_together(request: Request, with_uncond: bool) -> dict[Hashable, Prediction]:
    """Return the predictions of two predictors of one model; the host batches what fits into memory."""
    models: Any = request.models
    (source, adapted), x, sigma = models, request.x, request.sigma
    model, options, device = source.guider.inner_model, source.model_options, source.patcher.load_device
    x_there, sigma_there = x.to(device), sigma.to(device)
    conds = []
    for branch in (source, adapted):
        branch.guide(sigma)
        guided = with_uncond or not math.isclose(branch.guider.cfg, 1.0) or options.get("disable_cfg1_optimization")
        conds += [branch.guider.conds["positive"], branch.guider.conds.get("negative") if guided else None]
    predictions: dict[Hashable, Prediction] = {}
    try:
        with lent(source.weights):
            found = comfy.samplers.calc_cond_batch(model, conds, x_there, sigma_there, options)
            for k, branch in enumerate((source, adapted)):
                (cond, uncond), (positive, negative) = found[2 * k : 2 * k + 2], conds[2 * k : 2 * k + 2]
                guidance = GuidanceRecord(with_uncond)
                recorded = comfy.model_patcher.set_model_options_post_cfg_function(options.copy(), guidance)
                denoised = comfy.samplers.cfg_function(
                    model, cond, uncond, branch.guider.cfg, x_there, sigma_there, recorded, positive, negative
                )
                predictions[branch] = guidance.prediction(denoised, x.device)
    except Exception as error:
        explain(error, (source.role, source.guider), (adapted.role, adapted.guider))
        raise
    return predictions
