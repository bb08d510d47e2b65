"""Delta Sampling: carry what an adapter does from one diffusion model to another.

The modules beside this file are plain torch and know nothing of ComfyUI; `sampling.host`
puts them to work inside it.
"""
