"""The method inside ComfyUI, through the host's own guiders, wrappers and hooks."""
