# Every target first makes the environment (.venv, and missing Debian packages where that is allowed); see scripts/bootstrap.
CONFIG ?= small
LIBERTY ?=
GRID ?= sweep.toml
N ?=
JOBS ?= 2
PYTHON := .venv/bin/python
OPTIONS = --config $(CONFIG)
NUMBER = $(if $(N),--number $(N))

.DEFAULT_GOAL := help
.PHONY: help environment opensta verilog test fuzz demo networks finetune area timing power fpga sweep compare silicon lint bench clean

help: ## this list
	@echo 'make TARGET [CONFIG=tiny|small|medium|large|FILE.toml] [LIBERTY=FILE.lib] [N=NUMBER]'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

environment:
	@./scripts/bootstrap

opensta:
	@./scripts/bootstrap sta:opensta

verilog: environment ## write build/CONFIG/accelerator.v and its description
	@$(PYTHON) -m sdp verilog $(OPTIONS)

test: environment ## all tests: golden model, compiler, hardware under Icarus and Verilator
	@$(PYTHON) -m pytest -q -n $(JOBS)

fuzz: environment ## N random layers, hardware against golden model
	@$(PYTHON) -m sdp fuzz $(OPTIONS) $(NUMBER)

demo: environment ## a trained network classifies real images on the generated Verilog, compared bit for bit
	@$(PYTHON) -m sdp demo $(OPTIONS) $(NUMBER)

networks: environment ## the three networks of ../shared: accuracy, cycles, every code on the RTL
	@$(PYTHON) -m sim.networks $(OPTIONS) $(if $(N),--images $(N))

# PyTorch is large: it comes with this target only.
finetune: environment ## both ResNets of ../shared trained for low budgets, into build/finetuned; installs PyTorch
	@test ! -d ../shared/networks || $(PYTHON) -c 'import torch' 2>/dev/null || \
		$(PYTHON) -m pip --disable-pip-version-check -q install -c constraints.txt -e '.[finetune]'
	@$(PYTHON) -m finetune.networks $(OPTIONS)

area: environment ## area per unit, in NAND2 equivalents or with LIBERTY
	@$(PYTHON) -m sdp area $(OPTIONS) $(if $(LIBERTY),--liberty $(LIBERTY))

timing: environment opensta ## critical path per unit beside an INT8 multiply-accumulate, with LIBERTY
	@$(PYTHON) -m sdp timing $(OPTIONS) $(if $(LIBERTY),--liberty $(LIBERTY))

fpga: environment ## LUTs, DSPs, block RAMs and clock on a Lattice ECP5, after place and route
	@$(PYTHON) -m sdp fpga $(OPTIONS)

power: environment opensta ## power of the array on a real network, simulated gate by gate, with LIBERTY
	@$(PYTHON) -m sdp power $(OPTIONS) $(if $(LIBERTY),--liberty $(LIBERTY))

sweep: environment ## the design space of GRID=sweep.toml: table, Pareto fronts, plots; goes on where it was stopped
	@$(PYTHON) -m sdp sweep --grid $(GRID) $(if $(LIBERTY),--liberty $(LIBERTY))

compare: environment ## SDP beside DRQ, OLAccel, Eyeriss and plain arrays: docs/comparison.md; with LIBERTY areas, with FINETUNE=1 trained networks as well
	@$(PYTHON) -m sdp compare $(if $(LIBERTY),--liberty $(LIBERTY)) $(if $(FINETUNE),--finetune)

silicon: environment ## docs/silicon.md from the reports of area, timing, power, fpga, sweep and energy
	@$(PYTHON) -m synth.silicon

lint: environment ## Verilator's lint of the generated Verilog, ruff of the sources
	@$(PYTHON) -m sdp lint $(OPTIONS)
	@$(PYTHON) -m ruff check

bench: environment ## use of the multipliers, time against budget, speed of the simulations
	@$(PYTHON) -m sdp bench $(OPTIONS) $(NUMBER)

clean: ## remove what was made, the environment excepted
	@rm -rf build .hypothesis .pytest_cache .ruff_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
