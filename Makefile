# What a developer does with this repository, one target each. What is longer than a line or two is in hack/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PROGRAMS := apiserver nodehandler gc corepipe kubectl-coredump
BIN := $(CURDIR)/_output/bin
VERSION ?= $(shell hack/version.sh)
LDFLAGS := -s -w -X k8s.io/component-base/version.gitVersion=$(VERSION) -X main.version=$(VERSION)

# One set of compiler flags for everything but the race detector: the checks, the programs and the integration
# tests then share one build cache, and nothing is compiled twice.
export CGO_ENABLED := 0
export GOFLAGS := $(strip $(filter-out -trimpath,$(shell go env GOFLAGS)) -trimpath)

# What hack/verify-<check>.sh tells, hack/update-<check>.sh repairs as far as a program can.
# In this order: the quick ones first.
CHECKS := format shell licences tidy vet lint codegen docs

##@ Everyday

.PHONY: help
help: ## Show this text.
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nOne check:  make verify-CHECK or make update-CHECK, CHECK one of: $(CHECKS)\n'

.PHONY: build
build: ## Build the programs, static, into _output/bin.
	@mkdir -p $(BIN)
	go build -tags grpcnotrace -ldflags '$(LDFLAGS)' -o $(BIN)/ $(PROGRAMS:%=./cmd/%)

.PHONY: demo
demo: build ## Show the whole way on real parts, until Ctrl-C. DEMO_EXIT=1: end after having shown it.
	@. hack/test-env.sh; go run ./hack/demo

.PHONY: clean
clean: ## Remove _output. What hack/build-tools.sh keeps in the user's cache directory stays.
	rm -rf _output

##@ Tests

# One after the other, whatever -j says: some of them set core_pattern, and there is one for the whole machine.
.PHONY: test
test: ## Run all tests. Installs or builds what they need.
	@$(MAKE) test-unit
	@$(MAKE) test-integration
	@$(MAKE) test-e2e

.PHONY: test-unit
test-unit: install-deps ## Hermetic tests, with the race detector.
	@. hack/test-env.sh; CGO_ENABLED=1 GOFLAGS='$(filter-out -trimpath,$(GOFLAGS))' go test -race -p 2 -timeout 20m ./...

.PHONY: test-integration
test-integration: install-deps build ## The programs against a real control plane and a real S3 server.
	@. hack/test-env.sh; go test -tags integration -count=1 -timeout 30m ./test/integration/...

# Where they cannot run they say so and succeed, unless COREDUMP_E2E=required: CI that is root has no excuse.
export COREDUMP_E2E ?= $(if $(filter true,$(CI)),$(if $(filter 0,$(shell id -u)),required))

.PHONY: test-e2e
test-e2e: e2e

.PHONY: e2e
e2e: build ## The programs on a real node: kubelet, containerd, pods that crash. Needs root. E2E=name runs some.
	@hack/install-deps.sh test node
	@. hack/test-env.sh node; go test -tags e2e -count=1 -timeout 30m -v -run='$(E2E)' ./test/e2e

.PHONY: fuzz
fuzz: ## Run every fuzz test for FUZZTIME (default 30s) each.
	@hack/fuzz.sh

.PHONY: bench
bench: build ## Measure ours and others' in turn, into _output/bench.json. BENCH=name runs those whose names begin so.
	@hack/install-deps.sh bench
	@. hack/test-env.sh; go run ./test/bench --run='$(BENCH)' --output=_output/bench.json

##@ Checks

.PHONY: verify
verify: ## Run all checks, also when one of them finds something.
	@$(MAKE) --keep-going $(CHECKS:%=verify-%)

.PHONY: update
update: $(CHECKS:%=update-%) ## Repair what can be repaired by a program: formatting, generated files, headers ...

verify-%: hack/verify-%.sh
	@echo "verify $*"
	@$<

update-%: hack/update-%.sh
	@echo "update $*"
	@$<

.PHONY: install-deps
install-deps: ## Install the Debian packages that tests and checks need; where it cannot, say what is missing.
	@hack/install-deps.sh test verify
