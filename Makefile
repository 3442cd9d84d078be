# make talk [QUESTION=my.wav] [ANSWER=answer.wav]    answer a spoken question
# make test [PEERS=optional]                         every test: the fast ones, then the real thing
# make train RECIPE=mini/align [ARGS="steps=2000"]   train one part
# make tables DATA=benchmarks [ARGS="-n 200"]        measure base as papers do, on public sets
# make lint; make docs                               rules, formatting, types; the documentation, in site/
#
# Each does its own set-up the first time and says what it downloads; after that nothing is downloaded.
# The environment is .venv, made with PYTHON (python3), from the versions in requirements.lock.
#
# Tests compare with other programs and are called by other clients. `make test` installs those too, but for browsers
# and what plays music, which `make browser` takes from Debian, and fails where one is missing. PEERS=optional skips
# what isn't there.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
QUESTION ?= examples/question.wav
ANSWER ?= answer.wav
RECIPE ?= mini/align
ARGS ?=
DATA ?= benchmarks
PEERS ?= required
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip
INSTALL := PIP_CONSTRAINT=requirements.lock $(PIP) install

PYTEST := ANTIPHON_PEERS=$(PEERS) $(BIN)/python -m pytest -n 2 --dist loadfile
TESTED := $(VENV)/$(if $(filter required,$(PEERS)),.peers,.develop)

.DELETE_ON_ERROR:
.PHONY: help talk test test-fast browser train tables weights wheel lock lint docs clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

talk: $(VENV)/.talk
	@$(BIN)/antiphon talk "$(QUESTION)" -o "$(ANSWER)"

test: test-fast weights
	$(PYTEST) -m slow --durations 20

test-fast: $(TESTED)
	$(PYTEST) -m "not slow"

# From Debian, where they are missing: two browsers, a sound card made of software for one, what plays music, and voices.
browser:
	@command -v chromium && command -v firefox-esr && command -v pulseaudio && command -v paplay && \
		command -v fluidsynth && command -v flite && test -e /usr/share/sounds/sf2/FluidR3_GM.sf2 || { \
		root=$$(test "$$(id -u)" = 0 || echo sudo); \
		$$root apt-get update && \
		$$root apt-get install --yes --no-install-recommends \
			chromium firefox-esr pulseaudio pulseaudio-utils fluidsynth fluid-soundfont-gm flite; }

train: $(VENV)/.develop
	$(BIN)/antiphon train "$(RECIPE)" $(ARGS)

tables: $(VENV)/.tables
	$(BIN)/antiphon eval tables --rows text,text-spoken,audio,speech,duplex --data "$(DATA)" -o report $(ARGS)

weights: $(VENV)/.talk
	@$(BIN)/antiphon fetch mini
	@$(BIN)/antiphon fetch small

wheel: $(VENV)/.develop
	$(BIN)/python -m build --wheel --no-isolation

lint: $(VENV)/.develop
	$(BIN)/ruff check antiphon tests
	$(BIN)/ruff format --check antiphon tests
	$(BIN)/mypy

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

lock: $(VENV)/.develop
	(sed '/^[^#]/,$$d' requirements.lock && \
	$(BIN)/pip-compile --quiet --upgrade --no-header --no-annotate --strip-extras --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --no-emit-options --extra clients --extra codec --extra data --extra dev --extra docs --extra echo --extra eval --extra json --extra mcp --extra mic \
		--extra parity --extra ray --extra scene --extra semantic --extra tables --extra train --extra webrtc --extra wyoming --output-file - pyproject.toml | sed -n 's/+cpu$$//; /^[a-z]/p') > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:
	rm -rf build dist site .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "The pinned versions need Python 3.11, 3.12 or 3.13, and $(PYTHON) is another one." >&2; \
		echo "Name one that you have, e.g.: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.talk: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing Antiphon into $(VENV) (PyTorch is the largest download)"
	$(INSTALL) -e .
	@touch $@

$(VENV)/.develop: requirements.lock pyproject.toml | $(VENV)/.talk
	@echo "Installing what tests, data, training and evaluation need into $(VENV)"
	$(INSTALL) -e '.[data,dev,echo,eval,json,semantic,train,webrtc]'
	@touch $@

$(VENV)/.tables: requirements.lock pyproject.toml | $(VENV)/.develop
	@echo "Installing what the tables need into $(VENV)"
	$(INSTALL) -e '.[tables]'
	@touch $@

$(VENV)/.docs: requirements.lock pyproject.toml | $(VENV)/.talk
	@echo "Installing what builds the documentation into $(VENV)"
	$(INSTALL) -e '.[docs]'
	@touch $@

# Some of these are built in folders of their own, from which the lock is found by its whole path alone.
$(VENV)/.peers: requirements.lock pyproject.toml tests/peers.txt | $(VENV)/.develop
	@echo "Installing what tests compare with and are called by into $(VENV)"
	PIP_CONSTRAINT=$(CURDIR)/requirements.lock $(PIP) install -e '.[clients,codec,mic,parity,ray,scene,tables,wyoming]'
	$(INSTALL) --no-deps -r tests/peers.txt
	@command -v npm || echo "No npm: the page's accessibility isn't tested (axe-core)"
	! command -v npm || npm install --silent --no-save --no-package-lock --prefix $(VENV) axe-core@4.14.1
	@touch $@
