"""Autoencoders: KL ones of SD, SDXL, SD3 and Flux with a thin decoder, and the tiny ones of the previews."""

import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.taesd.taesd import Decoder, Encoder

from .weights import Shapes, shapes_of

CONFIG = {"double_z": True, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2, 4, 4]}
CONFIG |= {"num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
# The host reads the decoder's width from the file, and has the encoder's by heart.
DECODER_WIDTH = 32


def kl(channels: int = 4) -> Shapes:
    """Those of 4 channels have a last and a first layer apart from their two halves; those of 16 have not."""
    config = CONFIG | {"z_channels": channels}
    with torch.device("meta"):
        model = AutoencoderKL(ddconfig=config, embed_dim=channels, decoder_ddconfig=config | {"ch": DECODER_WIDTH})
    return {key: shape for key, shape in shapes_of(model).items() if channels == 4 or "quant_conv" not in key}


def tiny_encoder(channels: int = 4) -> Shapes:
    with torch.device("meta"):
        return shapes_of(Encoder(channels))


def tiny_decoder(channels: int = 4) -> Shapes:
    with torch.device("meta"):
        return shapes_of(Decoder(channels))
