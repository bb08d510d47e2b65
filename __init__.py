"""Delta Sampling for ComfyUI: use a LoRA, fine-tune or ControlNet of one base model on another."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Return the extension. Imported only here, so that the pack's pure parts need no ComfyUI."""
    from .nodes import DeltaSamplingExtension

    return DeltaSamplingExtension()
