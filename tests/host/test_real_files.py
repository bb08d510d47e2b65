"""What the host takes the files for that the tests make (tests/host/files); server/test_real_files.py runs them."""

import comfy.model_base
import comfy.model_detection
import comfy.sd
import comfy.supported_models
import comfy.utils
import pytest
import torch

from .files import diffusion_models, library, text_encoders

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


@pytest.mark.parametrize("name", ["clip_l", "clip_g"])
def test_a_text_encoder(name):
    shapes = text_encoders.clip_l() if name == "clip_l" else text_encoders.in_hugging_face_keys(text_encoders.clip_g())
    weights = {key: torch.zeros(shape, device="meta") for key, shape in shapes.items()}
    assert comfy.sd.detect_te_model(weights).name == name.upper()
