# Two commands: `make demo` (train, compare, report) and `make test` (the suite but for its slow set).
# Both set up .venv by themselves; nothing else is needed but Python 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2
# Five of the fourteen arms of stdlib; `resonant list stdlib` names them all.
DEMO_ARMS := softmax,softmax-gate,softmax-window,krause-window,kuramoto
DEMO_SPEECH := --arms softmax,clock --seeds 1 --data.text stdlib --data.utterances 600 \
	--data.held_out 48 --training.steps 600 --training.learning_rate 0.004

.PHONY: install demo demo-all test test-slow lint bench docs clean

install: .venv/.dev

# torch first and pinned: whatever depends on it must never choose another build.
.venv/.lab: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) torch==2.13.0 -e '.[lab]'
	touch $@

.venv/.speech: .venv/.lab
	$(PIP) torch==2.13.0 -e '.[lab,speech]'
	touch $@

.venv/.vision: .venv/.lab
	$(PIP) torch==2.13.0 -e '.[lab,vision]'
	touch $@

.venv/.dev: .venv/.lab
	$(PIP) torch==2.13.0 -e '.[lab,dev]'
	touch $@

demo: .venv/.lab
	$(BIN)/resonant compare stdlib --out runs/demo --arms $(DEMO_ARMS)

# The demo, then a minute of digits (scikit-learn's) and one or two of speech (eSpeak NG, GPL, an
# extra of its own): nothing to download; see runs/demo-digits/report.html, hear it in
# runs/demo-speech/report.html.
demo-all: demo .venv/.vision .venv/.speech
	$(BIN)/resonant compare digits --out runs/demo-digits --seeds 1
	$(BIN)/resonant compare speech --out runs/demo-speech $(DEMO_SPEECH)

test: .venv/.dev
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS)

test-slow: .venv/.dev
	$(BIN)/python -m pytest -m slow -n $(WORKERS) --durations 20

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/.dev
	$(BIN)/resonant bench

# The site, at build/site/index.html; what the pages show and link to is tested by make test.
docs: .venv/.dev
	$(BIN)/mkdocs build

clean:
	rm -rf .venv runs build src/*.egg-info .pytest_cache .ruff_cache .hypothesis
