"""What the host takes the made files for (tests/host/files); server/test_real_files.py runs prompts on them."""

import comfy.lora
import comfy.model_base
import comfy.model_detection
import comfy.sd
import comfy.supported_models
import comfy.utils
import pytest
import torch

from .files import adapters, diffusion_models, library, text_encoders

FAMILIES = {
    diffusion_models.sd15: comfy.supported_models.SD15,
    diffusion_models.sd21: comfy.supported_models.SD20,
    diffusion_models.sd21_unclip: comfy.supported_models.SD21UnclipH,
    diffusion_models.sdxl: comfy.supported_models.Segmind_Vega,
    diffusion_models.sd3: comfy.supported_models.SD3,
    diffusion_models.sd35: comfy.supported_models.SD3,
    diffusion_models.flux: comfy.supported_models.Flux,
    diffusion_models.z_image: comfy.supported_models.ZImage,
}


@pytest.mark.parametrize("shapes", FAMILIES, ids=lambda shapes: shapes.__name__)
def test_the_family_of_a_diffusion_model(shapes):
    assert type(diffusion_models.detected(shapes())) is FAMILIES[shapes]


def test_the_768_pixel_sd2_predicts_v(tmp_path):
    library.add(tmp_path, "checkpoints", "v2-1_768.safetensors")
    weights = comfy.utils.load_torch_file(str(tmp_path / "checkpoints" / "v2-1_768.safetensors"))
    prefix = comfy.model_detection.unet_prefix_from_state_dict(weights)
    found = comfy.model_detection.model_config_from_unet(weights, prefix)
    assert found.model_type(weights, prefix) is comfy.model_base.ModelType.V_PREDICTION


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        (text_encoders.clip_l_alone(), "CLIP_L"),
        (text_encoders.in_hugging_face_keys(text_encoders.clip_g()), "CLIP_G"),
    ],
    ids=["CLIP-L", "CLIP-G"],
)
def test_a_text_encoder(shapes, name):
    assert comfy.sd.detect_te_model(weightless(shapes)).name == name


@pytest.mark.parametrize("name", ["sd3", "flux", "z_image"])
def test_a_lora_of_a_transformer_fits_it_whole(name):
    config = diffusion_models.detected(getattr(diffusion_models, name)())
    config.set_inference_dtype(torch.float16, None)
    lora = weightless(getattr(adapters, f"{name}_peft")())
    known = comfy.lora.model_lora_keys_unet(config.get_model({}, device="meta"), {})
    assert len(comfy.lora.load_lora(lora, known)) == len(lora) // 2 > 0


def weightless(shapes):
    return {key: torch.zeros(shape, device="meta") for key, shape in shapes.items()}
