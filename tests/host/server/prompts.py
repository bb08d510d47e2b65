"""API-format prompts on the lab's models."""

import itertools

from safetensors.torch import load_file


class Prompt:
    """A prompt under construction: `add` returns the link to a node's first output."""

    def __init__(self, width=64, batch=1):
        self.nodes = {}
        self.count = itertools.count(1)
        self.image = self.add("EmptyLatentImage", width=width, height=width, batch_size=batch)
        self.positive = self.add("LabPrompt", names="airplane", copies=1)
        self.negative = self.add("LabPrompt", names="", copies=1)

    def add(self, node, **inputs):
        number = str(next(self.count))
        self.nodes[number] = {"class_type": node, "inputs": inputs}
        return [number, 0]

    def model(self, name):
        """Return the link to a model of the lab; a link to any model is returned as it is."""
        if isinstance(name, list):
            return name
        for number, node in self.nodes.items():
            if node["class_type"] == "LabModel" and node["inputs"]["name"] == name:
                return [number, 0]
        return self.add("LabModel", name=name)

    def roles(self, **models):
        """Return the inputs of roles (role -> name of a model) with the prompts of all."""
        parts = {"positive": self.positive, "negative": self.negative}
        return {
            f"{role}_{part}": link
            for role, model in models.items()
            for part, link in {"model": self.model(model), **parts}.items()
        }

    def sampling(self, **changed):
        return {
            "seed": 3, "steps": 4, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
            "latent_image": self.image, **changed,
        }  # fmt: skip

    def ksampler(self, model, **changed):
        conds = {"positive": self.positive, "negative": self.negative}
        return self.add("KSampler", model=self.model(model), **conds, **self.sampling(**changed))

    def delta_ksampler(self, source, adapted, target, strength=1.0, node="DeltaKSampler", **changed):
        roles = self.roles(source=source, adapted=adapted, target=target)
        return self.add(node, **roles, delta_strength=strength, **self.sampling(**changed))

    def delta_pair(self, source="source", adapted="source_ink", **changed):
        roles = self.roles(source=source, adapted=adapted)
        return self.add("DeltaPair", **roles, **{"cfg": 2.0, "strength": 1.0, **changed})

    def delta_ksampler_advanced(self, target, delta, **changed):
        sampling = self.sampling(**changed)
        sampling["noise_seed"] = sampling.pop("seed")
        del sampling["denoise"]
        steps = {
            "start_at_step": 0,
            "end_at_step": 10000,
            "add_noise": "enable",
            "return_with_leftover_noise": "disable",
        }
        conds = {"positive": self.positive, "negative": self.negative}
        return self.add("DeltaKSamplerAdvanced", model=self.model(target), delta=delta, **conds, **sampling, **steps)

    def delta_guider(self, target, delta):
        conds = {"positive": self.positive, "negative": self.negative}
        return self.add("DeltaGuider", model=self.model(target), **conds, cfg=2.0, delta=delta)

    def custom_sampler(self, target, guider, seed=3, steps=4):
        return self.add(
            "SamplerCustomAdvanced",
            noise=self.add("RandomNoise", noise_seed=seed),
            guider=guider,
            sampler=self.add("KSamplerSelect", sampler_name="euler"),
            sigmas=self.add(
                "BasicScheduler", model=self.model(target), scheduler="normal", steps=steps, denoise=1.0
            ),
            latent_image=self.image,
        )  # fmt: skip

    def decoded(self, latent):
        return self.add("VAEDecode", samples=latent, vae=self.add("LabVAE", name="patches"))

    def preview(self, latent):
        return self.add("PreviewImage", images=self.decoded(latent))

    def save(self, name, latent):
        return self.add("SaveLatent", samples=latent, filename_prefix=name)


def run_and_load(server, prompt, latents, **listening):
    """Queue the prompt with each of `latents` (name -> link) saved, and return them as tensors."""
    saved = {name: prompt.save(name, link)[0] for name, link in latents.items()}
    outputs = server.run(prompt.nodes, **listening)
    files = {name: outputs[number]["latents"][0] for name, number in saved.items()}
    return {
        name: load_file(server.output / file["subfolder"] / file["filename"])["latent_tensor"]
        for name, file in files.items()
    }
