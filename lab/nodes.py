"""The lab's models as models of ComfyUI, with nodes to load them, prompt them and decode their latents."""

from typing import ClassVar

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models_base
import torch
from comfy_api.latest import ComfyExtension, io

from . import adapters, autoencoder, denoisers, lifted, shapes, storage

KINDS = {
    "eps": comfy.model_base.ModelType.EPS,
    "v": comfy.model_base.ModelType.V_PREDICTION,
    "flow": comfy.model_base.ModelType.FLOW,
}
CATEGORY = "delta sampling lab"


class LabLatents(comfy.latent_formats.LatentFormat):
    """The lab autoencoder's latents: unit variance, 4 channels; its linear preview serves the host's."""

    spacial_downscale_ratio = autoencoder.FACTOR
    taesd_decoder_name = "autoencoder"  # tells the host whose latents these are

    def __init__(self):
        weight, bias = storage.load_autoencoder(self.taesd_decoder_name).rgb_factors()
        self.latent_rgb_factors, self.latent_rgb_factors_bias = weight.tolist(), bias.tolist()


class LargeLatents(LabLatents):
    """The latents of the autoencoder that was trained apart, for pictures of 128x128."""

    taesd_decoder_name = "large_autoencoder"


class LiftedLatents(LabLatents):
    """The flow family's latents: unit variance, 16 channels."""

    latent_channels = lifted.CHANNELS

    def __init__(self):
        super().__init__()
        self.latent_rgb_factors = (lifted.LOWER.T @ torch.tensor(self.latent_rgb_factors)).tolist()


class ScaledLatents(LabLatents):
    """The same at the scale of ScaledNet."""

    scale_factor = denoisers.ScaledNet.scale

    def __init__(self):
        super().__init__()
        self.latent_rgb_factors = (torch.tensor(self.latent_rgb_factors) / self.scale_factor).tolist()


class LabFamily(comfy.supported_models_base.BASE):
    latent_format = LabLatents


class LabScaledFamily(comfy.supported_models_base.BASE):
    latent_format = ScaledLatents


class LabLargeFamily(comfy.supported_models_base.BASE):
    latent_format = LargeLatents


class LabFlowFamily(comfy.supported_models_base.BASE):
    latent_format = LiftedLatents
    sampling_settings: ClassVar = {"shift": 1.0}


FAMILIES = {
    denoisers.ScaledNet: LabScaledFamily,
    denoisers.LargeNet: LabLargeFamily,
    denoisers.FlowNet: LabFlowFamily,
}


class HostedNet(torch.nn.Module):
    """A lab network behind the call that the host makes."""

    def __init__(self, name, dtype, device=None, operations=None, **unet_config):
        super().__init__()
        self.dtype = dtype
        self.net = storage.network(name)

    def forward(self, x, timesteps, context=None, **kwargs):
        return self.net(x, timesteps, context)


def hosted(name: str) -> comfy.model_patcher.ModelPatcher:
    """Return the lab model `name` as a MODEL."""
    net = denoisers.NETS[adapters.CONTROLS.get(name, name)]
    kind, family = net.prediction, FAMILIES.get(net, LabFamily)
    config = family({"name": name, "dtype": torch.float32, "context_dim": len(shapes.CLASSES)})
    device = comfy.model_management.get_torch_device()
    offload = comfy.model_management.unet_offload_device()
    model = comfy.model_base.BaseModel(config, KINDS[kind], device=offload, unet_model=HostedNet)
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


class HostedVAE:
    """A lab autoencoder in the place of a VAE of the host's."""

    latent_channels, latent_dim = autoencoder.LATENT_CHANNELS, 2

    def __init__(self, coder):
        self.coder = coder
        device = comfy.model_management.get_torch_device()
        self.patcher = comfy.model_patcher.ModelPatcher(coder, device, comfy.model_management.vae_offload_device())

    def spacial_compression_encode(self):
        return autoencoder.FACTOR

    def encode(self, pictures):
        return self.coder.encode(pictures.movedim(-1, 1).to(self.patcher.load_device) * 2 - 1)

    def decode(self, latents):
        decoded = self.coder.decode(latents.to(self.patcher.load_device).float())
        return (decoded.clamp(-1, 1) / 2 + 0.5).movedim(1, -1)


def hosted_vae(name: str = "autoencoder") -> HostedVAE:
    """Return the autoencoder `name` as a VAE."""
    return HostedVAE(storage.load_autoencoder(name))


class LabModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LabModel",
            display_name="Lab Model",
            category=CATEGORY,
            inputs=[io.Combo.Input("name", options=[*denoisers.NETS, *adapters.CONTROLS])],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, name):
        return io.NodeOutput(hosted(name))


class LabPrompt(io.ComfyNode):
    """One class name a picture of the batch, each `copies` times; an empty text is the empty prompt."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LabPrompt",
            display_name="Lab Prompt",
            category=CATEGORY,
            inputs=[io.String.Input("names", default="circle"), io.Int.Input("copies", default=1, min=1)],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, names, copies):
        labels = [shapes.CLASSES.index(name.strip()) if name.strip() else shapes.UNNAMED for name in names.split(",")]
        return io.NodeOutput([[denoisers.one_hot(torch.tensor(labels).repeat_interleave(copies)), {}]])


class LabDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LabDecode",
            display_name="Lab Decode",
            category=CATEGORY,
            inputs=[io.Latent.Input("samples")],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, samples):
        picture = storage.load_autoencoder().decode(lifted.lowered(samples["samples"].float()))
        return io.NodeOutput((picture.clamp(-1, 1) / 2 + 0.5).movedim(1, -1))


class LabExtension(ComfyExtension):
    async def get_node_list(self):
        return [LabModel, LabPrompt, LabDecode]
