# make help lists the targets. Settings: DATA, NAME, BASE, SET, PARAMS, SEEDS, SEED, OUTPUT, WORKDIR, MODEL, CLASS, N, OUT,
# IMAGES, FLAGS, JOBS, PROFILE, PUSHED, RUNNER, IMAGES_TAG, REGISTRY, BASE_IMAGE, RELEASE, WHEELS, GPU, PYTHON,
# TORCH_INDEX, HASHES, TORCH_HASH, TARGETS, SECONDS, CORPUS.

PYTHON ?= python3
VENV ?= .venv
WORKDIR ?= runs
PARAMS ?= quickstart
# Index that torch alone is taken from, for example the one with CPU-only wheels.
TORCH_INDEX ?=
DATA ?=
NAME ?=
BASE ?=
SET ?=
SEEDS ?= 0 1 2
SEED ?= 0
OUTPUT ?= .
MODEL ?= sample-boards
CLASS ?=
N ?= 100
OUT ?= new-images
IMAGES ?= 200 2000
FLAGS ?=
# Of `make test`: how many processes share the tests, a file each at a time. Each keeps about one core busy.
JOBS ?= 2
# HASHES=1 installs by digest, from requirements.hashes and requirements.torch.hashes; TORCH_HASH=sha256:… names torch's
# wheel instead of the latter, as it must be for one of TORCH_INDEX.
HASHES ?=
TORCH_HASH ?=
# Of `make fuzz`: what is fuzzed (everything), for how long each, and where the inputs are kept.
TARGETS ?=
SECONDS ?= 60
CORPUS ?= runs/fuzz
# A cluster's profile for `make compile`, and the file that names the images as they were pushed.
PROFILE ?=
PUSHED ?=
# What runs the steps of `make run`: host (processes) or docker (containers of the images; PUSHED names other ones).
RUNNER ?= host
# Images: their tag, the base and a folder of wheels that they are built from, and the registry that they are pushed to.
IMAGES_TAG ?=
BASE_IMAGE ?=
# RELEASE=1 refuses images on a base that is not named by digest: BASE_IMAGE=name@sha256:…
RELEASE ?=
WHEELS ?=
# GPU=1: images for NVIDIA GPUs.
GPU ?=
REGISTRY ?=

BIN := $(VENV)/bin
# What says that the packages were installed by digest, and by which one torch.
HASHED := $(VENV)/.hashed$(subst sha256:,-,$(TORCH_HASH))
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PIP := $(INSTALL) -c requirements.lock
# Environments of their own for what is no part of the project.
AUDIT := $(VENV)-audit
FUZZ := $(VENV)-fuzz
SITE = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
SETTINGS = --params '$(PARAMS)' $(if $(DATA),--data '$(DATA)') $(if $(NAME),--name '$(NAME)') $(foreach s,$(SET),--set '$(s)')

# The targets whose names match, with what they do.
list = awk -F ':.*\#\# ' '/^$(1):.*\#\# / {printf "  make %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.DEFAULT_GOAL := help
.PHONY: help run plan compile submit kind-up kind-run kind-down images push-images settings generate push datasets mirror models gc
.PHONY: test test-unit test-integration test-e2e test-docker lint format lock study clean golden gpu-check
.PHONY: bench bench-crop bench-train bench-evaluate bench-convert bench-images faults load sbom licences audit fuzz

help: ## list the targets
	@$(call list,[a-z0-9-]+)
	@echo
	@echo "  DATA=folder  NAME=model  SET='train.seed=1 crop.classes=[pin-hole]'  PARAMS=file  WORKDIR=runs"

run: $(VENV)/.installed ## run the pipeline here: on the drawn boards, or on DATA=folder
	@$(BIN)/python -m pipelines run --workdir '$(WORKDIR)' --runner '$(RUNNER)' \
		$(if $(filter docker,$(RUNNER)),$(if $(PUSHED),--images '$(PUSHED)')) $(SETTINGS)

plan: $(VENV)/.installed ## say what `make run` would do
	@$(BIN)/python -m pipelines run --plan --workdir '$(WORKDIR)' $(SETTINGS)

# They take any Python, and none of the packages that are in the images.
CONTAINER_IMAGES = $(PYTHON) -m pipelines.container_images
images: ## build an image per step and one of the tools, and say how large they are (GPU=1 BASE_IMAGE=image TORCH_INDEX=url WHEELS=folder)
	@$(CONTAINER_IMAGES) build $(if $(IMAGES_TAG),--tag '$(IMAGES_TAG)') $(if $(RELEASE),--release) \
		$(if $(BASE_IMAGE),--base '$(BASE_IMAGE)') $(if $(TORCH_INDEX),--torch-index '$(TORCH_INDEX)') \
		$(if $(WHEELS),--wheels '$(WHEELS)') $(if $(GPU),--gpu) -- $(FLAGS)

push-images: ## push the images to REGISTRY=place and write their digests to images.yaml
	@$(CONTAINER_IMAGES) push $(if $(IMAGES_TAG),--tag '$(IMAGES_TAG)') $(if $(RELEASE),--release) --registry '$(REGISTRY)'

compile: $(VENV)/.installed ## write the pipeline to pipeline.yaml: for PROFILE=kind, or PROFILE=gpu PUSHED=images.yaml
	@$(BIN)/python -m pipelines compile $(SETTINGS) $(if $(PROFILE),--profile '$(PROFILE)') \
		$(if $(PUSHED),--images '$(PUSHED)')

submit: $(VENV)/.installed ## run the pipeline on a cluster and follow it: PROFILE=gpu PUSHED=images.yaml FLAGS='--host URL'
	@$(BIN)/python -m pipelines submit $(SETTINGS) --profile '$(PROFILE)' $(if $(PUSHED),--images '$(PUSHED)') $(FLAGS)

kind-up: $(VENV)/.installed ## a kind cluster here, with Kubeflow Pipelines and all that the pipeline needs
	@PYTHON='$(BIN)/python' k8s/kind/up.sh

kind-run: $(VENV)/.installed ## run the quickstart on the kind cluster, follow it, fetch what it made
	@PYTHON='$(BIN)/python' k8s/kind/run.sh

kind-down: ## delete the kind cluster and its store
	@k8s/kind/down.sh

study: $(VENV)/.installed ## the run with SEEDS='0 1 2'; a table and a picture to OUTPUT=folder
	@$(BIN)/python -m pipelines study --workdir '$(WORKDIR)' $(SETTINGS) --seeds $(SEEDS) --output '$(OUTPUT)'

generate: $(VENV)/.installed ## N=100 new images of CLASS=short (or of every class) with MODEL=name to OUT=folder
	@$(BIN)/python -m pipelines generate --workdir '$(WORKDIR)' --model '$(MODEL)' \
		$(foreach c,$(CLASS),--class '$(c)') -n $(N) --out '$(OUT)'

push: $(VENV)/.installed ## make DATA=folder the newest version of the data set NAME=name in the store
	@$(BIN)/python -m pipelines dataset push --workdir '$(WORKDIR)' '$(DATA)' '$(NAME)'

datasets: $(VENV)/.installed ## list the data sets in the store
	@$(BIN)/python -m pipelines dataset list --workdir '$(WORKDIR)'

mirror: $(VENV)/.installed ## copy the base model BASE=hf://owner/name@revision (or a folder, or a file) into the store
	@$(BIN)/python -m pipelines mirror --workdir '$(WORKDIR)' $(FLAGS) '$(BASE)'

models: $(VENV)/.installed ## list the published models: versions, metrics, data, which is the latest
	@$(BIN)/python -m pipelines models list --workdir '$(WORKDIR)'

gc: $(VENV)/.installed ## delete from the store what nothing refers to any more (FLAGS=--dry-run only says what)
	@$(BIN)/python -m pipelines gc --workdir '$(WORKDIR)' $(FLAGS)

settings: $(VENV)/.installed ## list every setting with its value and meaning
	@$(BIN)/python -m pipelines settings $(SETTINGS)

test: $(VENV)/.dev ## all tests: unit, integration, end to end, in containers (JOBS=2 processes)
	@OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n '$(JOBS)' --no-loadscope-reorder

test-unit: $(VENV)/.dev ## the quick tests: no store, no model
	@$(BIN)/python -m pytest -m 'not integration and not e2e and not docker'

test-integration: $(VENV)/.dev ## tests with the embedded store and the tiny model
	@$(BIN)/python -m pytest -m integration

test-e2e: $(VENV)/.dev ## the whole pipeline
	@$(BIN)/python -m pytest -m e2e

test-docker: $(VENV)/.dev ## the images, and the whole pipeline in them (needs a Docker daemon)
	@$(BIN)/python -m pytest tests/docker

bench: $(VENV)/.dev ## in some minutes: the trainer beside a plain DreamBooth loop; lists what else can be measured
	@OMP_WAIT_POLICY=passive $(BIN)/python -m tests.bench.train --rounds 4 --pairs 3
	@echo
	@echo 'More:'
	@$(call list,bench-[a-z-]+)

bench-crop: $(VENV)/.dev ## speed and memory of the crop step, beside the bare loop (IMAGES='200 2000')
	@$(BIN)/python -m tests.bench.crop --images $(IMAGES)

bench-train: $(VENV)/.dev ## speed and memory of the trainer, beside a plain DreamBooth loop, and what publishing costs
	@OMP_WAIT_POLICY=passive $(BIN)/python -m tests.bench.train --curves 3

gpu-check: $(VENV)/.gpu ## on a machine with a GPU: each setting that needs one, as a table (FLAGS=--full-size for memory)
	@OMP_WAIT_POLICY=passive $(BIN)/python -m tests.bench.gpu $(FLAGS)

bench-evaluate: $(VENV)/.dev ## speed of the evaluate step beside the plain way (N=100 images of each of 5 checkpoints)
	@$(BIN)/python -m tests.bench.evaluate --images '$(N)'

bench-convert: $(VENV)/.dev ## speed and memory of converting 1 and 4 GB beside copying them (needs 20 GB of disk)
	@$(BIN)/python -m tests.bench.convert

bench-images: $(VENV)/.dev ## how long a step's container takes to the first line of its log
	@OMP_WAIT_POLICY=passive $(BIN)/python -m tests.bench.images $(if $(PUSHED),--images '$(PUSHED)')

faults: $(VENV)/.dev ## steps and pipelines that are killed, or whose store, disk or clock fails, from SEED=0
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m tests.faults --seed '$(SEED)'

load: $(VENV)/.dev ## much at once: 20 pipelines, 10,000 crops, 100 checkpoints, 50,000 objects
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m tests.faults.load

sbom: $(AUDIT)/.installed ## write sbom.json: what is installed here, with licences (CycloneDX)
	@$(AUDIT)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible -o sbom.json
	@echo 'wrote sbom.json'

licences: $(VENV)/.dev ## list the dependencies with their licences; fails for one that is not on the list
	@$(BIN)/python -m tests.security.licences

audit: $(AUDIT)/.installed ## look the dependencies up among known vulnerabilities (asks the index's server)
	@$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip -r requirements.lock

fuzz: $(FUZZ)/.installed ## bytes at random into what reads files (TARGETS='zip tar' SECONDS=60 CORPUS=folder)
	@for target in $(or $(TARGETS),$$($(BIN)/python -m tests.security.fuzz.targets)); do \
	  PYTHONPATH='.:$(SITE)' nice -n 10 $(FUZZ)/bin/python -m tests.security.fuzz $$target $(SECONDS) '$(CORPUS)' || exit 1; done

golden: $(VENV)/.dev ## write the compiled pipelines of the tests anew, after a change to what a cluster gets
	@$(BIN)/python -m tests.pipelines.golden

lint: $(VENV)/.dev ## style, types and import rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

format: $(VENV)/.dev ## put the sources into the project's format
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

# One version for Python 3.10 to 3.12. CUDA's libraries come with torch's CUDA build, at the versions it names.
CUDA := cuda-bindings cuda-pathfinder cuda-toolkit triton setuptools $(addprefix nvidia-,cublas cuda-cupti \
  cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile curand cusolver cusparse cusparselt-cu13 nccl-cu13 nvjitlink \
  nvshmem-cu13 nvtx)
DIGESTS := requirements.hashes requirements.torch.hashes requirements.gpu.hashes
lock: $(VENV)/.dev ## take up newer versions of the dependencies
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.10 --fork-strategy fewest \
	  --upgrade --no-header $(addprefix --no-emit-package ,$(CUDA)) --quiet -o requirements.new >/dev/null
	@(sed -n '/^#/!q;p' requirements.lock; sed '/^# The following packages were excluded/,$$d' requirements.new) \
	  >requirements.lock.tmp && mv requirements.lock.tmp requirements.lock && rm requirements.new
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.10 --fork-strategy fewest \
	  -c requirements.lock --generate-hashes --no-annotate --no-header --quiet -o requirements.new >/dev/null
	@for file in $(DIGESTS); do sed -n '/^#/!q;p' $$file >$$file.tmp; done
	@awk -v names='torch $(CUDA)' 'BEGIN { split(names, name); for (i in name) kind[name[i]] = "torch."; \
	  kind["bitsandbytes"] = "gpu." } \
	  /^[^ #]/ { split($$0, part, "=="); file = "requirements." kind[part[1]] "hashes.tmp" } \
	  { print >>file }' requirements.new && rm requirements.new
	@for file in $(DIGESTS); do mv $$file.tmp $$file; done

clean: ## remove the environment and everything that runs left
	rm -rf '$(VENV)' '$(AUDIT)' '$(FUZZ)' '$(WORKDIR)' sbom.json

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 12) else \
	  f"Python 3.10 to 3.12 is needed, this is {v[0]}.{v[1]}; name another one with PYTHON=python3.11")'
	@$(PYTHON) -m venv '$(VENV)'

$(VENV)/.installed: pyproject.toml requirements.lock | $(VENV)/bin/python $(if $(HASHES)$(TORCH_HASH),$(HASHED))
	@echo "installing the pinned dependencies into $(VENV) (once)"
	@$(if $(TORCH_INDEX),$(PIP) --index-url '$(TORCH_INDEX)' torch)
	@$(PIP) -e '.[torch,pipeline]'
	@touch $@

# What is installed by digest, before pip may choose: what it has chosen once is there, and not looked at again.
$(HASHED): requirements.hashes requirements.torch.hashes requirements.lock | $(VENV)/bin/python
	@$(if $(wildcard $@),,$(if $(wildcard $(VENV)/.installed),$(error $(VENV) was installed without these digests: make \
	  clean first)))
	@$(if $(TORCH_INDEX),$(if $(TORCH_HASH),,$(error HASHES=1: name the wheel of TORCH_INDEX with TORCH_HASH=sha256:…)))
	@$(INSTALL) --require-hashes --no-deps -r requirements.hashes $(if $(TORCH_HASH),,-r requirements.torch.hashes)
	@$(if $(TORCH_HASH),echo "$$(grep '^torch==' requirements.lock) --hash=$(TORCH_HASH)" >'$(VENV)/torch.txt' && \
	  $(INSTALL) $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)') --require-hashes --no-deps -r '$(VENV)/torch.txt')
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@$(PIP) -e '.[torch,pipeline,dev]'
	@touch $@

$(VENV)/.gpu: $(VENV)/.dev requirements.gpu.hashes
	@$(if $(HASHES),$(INSTALL) --require-hashes --no-deps -r requirements.gpu.hashes)
	@$(PIP) -e '.[torch,pipeline,dev,gpu]'
	@touch $@

$(AUDIT)/.installed: | $(VENV)/.installed
	@$(BIN)/python -m venv '$(AUDIT)'
	@$(AUDIT)/bin/python -m pip --disable-pip-version-check install --quiet cyclonedx-bom==7.5.0 pip-audit==2.10.1
	@touch $@

$(FUZZ)/.installed: | $(VENV)/.dev
	@$(BIN)/python -m venv '$(FUZZ)'
	@$(FUZZ)/bin/python -m pip --disable-pip-version-check install --quiet atheris==3.0.0
	@touch $@
