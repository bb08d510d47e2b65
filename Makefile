# make demo      the picture: what a LoRA of an old model does on a new one
# make test      all tests (REQUIRE_COMFYUI=1: fail, not skip, where there is no ComfyUI)
# make identities COMFYUI_PATH=...  the engine's identities under ComfyUI's options for memory and precision (an hour)
# make bench     what the pack costs
# make gpu       what a GPU makes of it: identities, time of a step, memory (PYTHON=python3 where there is no .venv)
# make lab       train the lab's models anew (minutes on a GPU, a day without; the weights are in the repository)
# make measure   how much of a style arrives: lab/results.json (hours)
# make evidence  the figures and tables of docs/evidence.md, from lab/results.json
# make host      look for ComfyUI, install it with comfy-cli where it is missing
# make pictures  the wiring pictures of the help pages (needs ComfyUI and Chromium)
# make lint      ruff and mypy

# ComfyUI is looked for here; the default is comfy-cli's default workspace.
export COMFYUI_PATH ?= $(HOME)/comfy/ComfyUI
COMFYUI_VERSION := 0.33.0

VENV := .venv
PYTHON := $(VENV)/bin/python
UV := $(or $(shell command -v uv),.uv/bin/uv)
# What comfy-cli said.
HOST_LOG := comfyui-install.log
# There once the environment is filled.
TORCH = $(wildcard $(VENV)/lib/python*/site-packages/torch)
REQUIREMENTS = $(wildcard $(COMFYUI_PATH)/requirements.txt)
# The threads of PyTorch and the lab's small models get in each other's way on few cores.
ONE_THREAD := OMP_NUM_THREADS=1

# Two processes, each with a ComfyUI and a server of its own; the tests of a file stay together, the longest come first.
TWO_AT_ONCE := --numprocesses 2 --dist loadfile --no-loadscope-reorder

# What has to hold on every machine, and the ways to start ComfyUI under which it is tried.
IDENTITIES := $(addprefix tests/host/,$(addsuffix .py,test_samplers test_shared_weights test_partly_loaded \
	test_dynamic_memory test_other_packs test_branches test_host_untouched server/test_queue))
OPTIONS := --fp16-unet --bf16-unet --fp8_e4m3fn-unet --cache-none --disable-smart-memory --fast --async-offload

.PHONY: demo test identities bench gpu lab measure evidence pictures host lint setup

demo: setup
	@$(ONE_THREAD) $(PYTHON) -m lab.demo

test: setup
	$(ONE_THREAD) $(PYTHON) -m pytest tests/unit
	test ! -f "$(COMFYUI_PATH)/main.py" || $(ONE_THREAD) $(PYTHON) -m pytest $(TWO_AT_ONCE) tests/host/server tests/host

identities: setup
	for option in $(OPTIONS); do echo "ComfyUI $$option"; \
		COMFYUI_OPTIONS=$$option $(ONE_THREAD) $(PYTHON) -m pytest -q $(IDENTITIES) || exit 1; done

bench: setup
	$(ONE_THREAD) $(PYTHON) -m harness benchmarks.overhead

# Not after `setup`, which needs a network; any folder stands in for the front end, whose package is large.
gpu:
	COMFYUI_OPTIONS="--front-end-root web" $(PYTHON) -m harness --gpu benchmarks.gpu

pictures: setup
	$(ONE_THREAD) $(PYTHON) -m docs.wiring

lab: setup
	$(PYTHON) -m lab.train

measure: setup
	$(PYTHON) -m harness --gpu lab.measure

evidence: setup
	$(PYTHON) -m lab.figures

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	MYPYPATH="$(COMFYUI_PATH)" $(PYTHON) -m mypy

# An environment with what ComfyUI requires and what the tests and the demo add to it.
setup: $(UV) host
	@test -x $(PYTHON) || $(UV) venv --quiet $(VENV)
	@$(if $(TORCH),,echo "Filling $(VENV), which takes minutes. On Linux it becomes 5 to 6 GB, more than half of it CUDA:" \
		"UV_TORCH_BACKEND=cpu before make leaves that out, where PyTorch's own index can be reached.")
	@$(UV) pip install --quiet --python $(PYTHON) --group dev $(addprefix -r ,$(REQUIREMENTS))

# Not fatal here: demo and test say what they do without a host.
host: $(UV)
	@test -f "$(COMFYUI_PATH)/main.py" || { \
		echo "No ComfyUI at $(COMFYUI_PATH): installing $(COMFYUI_VERSION) there with comfy-cli, from GitHub."; \
		$(UV) tool run --from "$$(sed -n 's/^host = \["\(.*\)"\]/\1/p' pyproject.toml)" comfy \
			--skip-prompt --workspace "$(COMFYUI_PATH)" install --version $(COMFYUI_VERSION) \
			--cpu --skip-manager --skip-torch-or-directml --skip-requirement >$(HOST_LOG) 2>&1 \
		|| echo "Going on without ComfyUI: $$(grep -m 1 -i -E '^(fatal|error)' $(HOST_LOG) \
			|| tail -n 1 $(HOST_LOG)) (all of it: $(HOST_LOG))"; }

# Only where there is no uv on the PATH.
.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet uv
