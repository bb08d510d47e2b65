"""The lab's models as models of ComfyUI, with nodes to load and prompt them. Their VAEs work with the host's nodes."""

from functools import cache
from typing import ClassVar

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models_base
import comfy.weight_adapter
import torch
from comfy_api.latest import ComfyExtension, io

from . import latents, networks, storage, world

KINDS = {
    "eps": comfy.model_base.ModelType.EPS,
    "v": comfy.model_base.ModelType.V_PREDICTION,
    "flow": comfy.model_base.ModelType.FLOW,
}
CATEGORY = "delta sampling lab"
ADAPTERS = [f"{base}_{style}" for base in world.BASES for style in world.STYLES]
CONTROLS = [f"{base}_control" for base in world.CONTROLLED]
MODELS = [*world.BASES, *ADAPTERS, *CONTROLS]


class LabLatents(comfy.latent_formats.LatentFormat):
    """Latents of a coder; its linear preview serves as the host's."""

    spacial_downscale_ratio = latents.FACTOR

    def __init__(self):
        weight, bias = storage.coder(self.taesd_decoder_name).rgb_factors()
        self.latent_rgb_factors, self.latent_rgb_factors_bias = weight.tolist(), bias.tolist()


class PatchFormat(LabLatents):
    latent_channels = latents.PatchLatents.channels
    taesd_decoder_name = "patches"  # tells the host whose latents these are


class AutoEncoderFormat(LabLatents):
    latent_channels = latents.AutoEncoder.channels
    taesd_decoder_name = "autoencoder"


class PatchFamily(comfy.supported_models_base.BASE):
    latent_format = PatchFormat


class FlowFamily(comfy.supported_models_base.BASE):
    latent_format = AutoEncoderFormat
    sampling_settings: ClassVar = {"shift": 1.0}


class HostedNet(torch.nn.Module):
    """A lab network behind the call that the host makes; its layers compute in `arithmetic`, where that is set."""

    arithmetic: torch.dtype | None = None

    def __init__(self, name, dtype, device=None, operations=None, **unet_config):
        super().__init__()
        self.dtype = dtype
        self.net = storage.controlled(name.removesuffix("_control")) if name in CONTROLS else storage.base(name)

    def forward(self, x, timesteps, context=None, **kwargs):
        with torch.autocast(x.device.type, self.arithmetic, enabled=self.arithmetic is not None):
            return self.net(x.float(), timesteps, context.float()).to(x.dtype)


@cache
def _base(name: str) -> comfy.model_patcher.ModelPatcher:
    net = networks.NETS[name.removesuffix("_control")]
    family = FlowFamily if net.prediction == "flow" else PatchFamily
    config = family({"name": name, "dtype": torch.float32, "context_dim": len(world.NAMES)})
    device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    model = comfy.model_base.BaseModel(config, KINDS[net.prediction], device=offload, unet_model=HostedNet)
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


def hosted(name: str) -> comfy.model_patcher.ModelPatcher:
    """Return the model `name` as a MODEL; an adapted one is its base with a LoRA, as a loader of LoRAs makes it."""
    if name not in ADAPTERS:
        return _base(name).clone()
    adapted = _base(name.rsplit("_", 1)[0]).clone()
    parts = storage.stored(name)
    patches = {}
    for layer in (key.removesuffix(".up") for key in parts if key.endswith(".up")):
        key = f"diffusion_model.net.{layer}.weight"
        low_rank = (parts[f"{layer}.up"], parts[f"{layer}.down"], None, None, None, None)
        patches[key] = comfy.weight_adapter.LoRAAdapter({key}, low_rank)
    adapted.add_patches(patches)
    return adapted


class HostedVAE:
    """A coder in the place of a VAE of the host's."""

    latent_dim = 2

    def __init__(self, name: str):
        self.coder, self.latent_channels = storage.coder(name), LATENTS[name].latent_channels
        device = comfy.model_management.get_torch_device()
        self.patcher = comfy.model_patcher.ModelPatcher(self.coder, device, device)
        self.coder.to(device)

    def spacial_compression_encode(self):
        return latents.FACTOR

    def spacial_compression_decode(self):
        return latents.FACTOR

    def encode(self, images):
        return self.coder.encode(images.movedim(-1, 1).to(self.patcher.load_device) * 2 - 1)

    def decode(self, samples, **kwargs):
        decoded = torch.cat(
            [self.coder.decode(part.to(self.patcher.load_device).float()) for part in samples.split(64)]
        )
        return (decoded.clamp(-1, 1) / 2 + 0.5).movedim(1, -1).to(comfy.model_management.intermediate_device())


LATENTS = {"patches": PatchFormat, "autoencoder": AutoEncoderFormat}


class LabModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LabModel",
            display_name="Lab Model",
            category=CATEGORY,
            inputs=[io.Combo.Input("name", options=MODELS)],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, name):
        return io.NodeOutput(hosted(name))


class LabPrompt(io.ComfyNode):
    """One name an image of the batch, each `copies` times; an empty text is the empty prompt."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LabPrompt",
            display_name="Lab Prompt",
            category=CATEGORY,
            inputs=[io.String.Input("names", default="airplane"), io.Int.Input("copies", default=1, min=1)],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, names, copies):
        labels = world.labels(name.strip() for name in names.split(","))
        return io.NodeOutput([[networks.one_hot(torch.tensor(labels).repeat_interleave(copies)), {}]])


class LabVAE(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LabVAE",
            display_name="Lab VAE",
            category=CATEGORY,
            inputs=[io.Combo.Input("name", options=list(LATENTS))],
            outputs=[io.Vae.Output()],
        )

    @classmethod
    def execute(cls, name):
        return io.NodeOutput(HostedVAE(name))


class LabExtension(ComfyExtension):
    async def get_node_list(self):
        return [LabModel, LabPrompt, LabVAE]
