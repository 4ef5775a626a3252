# Everything here works on a fresh clone: a target makes or installs what it needs first. Only Go, make and git have to
# be there (and root for the targets that touch a kernel or install packages).

SHELL := /usr/bin/env bash -euo pipefail
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# REPOSITORY:TAG
IMG ?= ghcr.io/serviceproxy/service-proxy-operator:$(VERSION)
AGENT_IMG ?= ghcr.io/serviceproxy/service-proxy-agent:$(VERSION)
TEST_TIMEOUT ?= 60m
# Half the CPUs run test programs: the other half is for the control planes, nodes and traffic that these start.
TEST_PARALLEL ?= $(shell echo $$(( ($$(nproc) + 1) / 2 )))
# More flags of go test. With -race, which .ci/run gives, a C compiler is needed.
TEST_FLAGS ?=
test-env := $(if $(findstring -race,$(TEST_FLAGS)),CGO_ENABLED=1)
# How often a spec may be tried. Where others use the machine too, as .ci/run does, it is worth a second time; which ones
# needed it is told at the end.
SPEC_ATTEMPTS ?= 1

GO ?= go
# The version is stamped by hand, so a checkout without .git, or with one owned by somebody else, builds as well.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)
# One setting for build, vet, lint and test, so that nothing is compiled twice.
export CGO_ENABLED ?= 0

CACHE := $(CURDIR)/.cache
# Tools live under the hash of what pins them: a changed pin is a different path, and gets built.
TOOLS := $(CACHE)/tools/$(shell { cat test/tools/go.* test/tools/*/*.go; $(GO) env GOVERSION; } | cksum | cut -d' ' -f1)
CONTROLLER_GEN := $(TOOLS)/controller-gen
GOLANGCI_LINT := $(TOOLS)/golangci-lint
# A kubectl of the machine wins over the one that controlplane builds.
export PATH := $(PATH):$(CACHE)/bin:/usr/sbin:/sbin
kubectl := $(if $(shell command -v kubectl),,controlplane)

# Every module with code of ours: this one and those below it.
MODULES := . $(shell find * -mindepth 1 -name go.mod -printf '%h\n' | while read -r dir; do \
	find "$$dir" -name '*.go' -printf "$$dir\\n" -quit; done)

say = @printf '==> %s\n' "$(1)"

##@ General

.PHONY: help
help: ## Show this text.
	@awk 'BEGIN { FS = ":.*## "; print "Usage: make TARGET" } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: clean
clean: ## Remove everything that was built.
	rm -rf bin .cache cover.out

##@ Build

.PHONY: build
build: ## Build the operator, the agent and the kubectl plugin into bin/.
	$(call say,building bin/ at $(VERSION))
	@$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/...

.PHONY: generate
generate: $(CONTROLLER_GEN) ## Write what is made from the types in api/, from config/ and from the programs: code, CRDs, bundle/, reference pages.
	$(call say,generating from api/ and config/ and the programs)
	@test/tools/generate.sh $(CONTROLLER_GEN)

# Images that were set by hand go into the bundle; a release names them by digest.
bundle-images := $(if $(findstring file,$(origin IMG)),,--image=ghcr.io/serviceproxy/service-proxy-operator=$(IMG)) \
	$(if $(findstring file,$(origin AGENT_IMG)),,--image=ghcr.io/serviceproxy/service-proxy-agent=$(AGENT_IMG))
.PHONY: bundle
bundle: ## Write bundle/ and bundle.Dockerfile, for the Operator Lifecycle Manager, from config/manifests.
	$(call say,making the bundle)
	@$(GO) run ./test/bundle/write $(bundle-images) .

BUNDLE_IMG ?= ghcr.io/serviceproxy/service-proxy-operator-bundle:$(VERSION)
.PHONY: bundle-build
bundle-build: ## Build the image of the bundle (BUNDLE_IMG).
	docker build --file bundle.Dockerfile --tag $(BUNDLE_IMG) .

.PHONY: docker-build
docker-build: ## Build the images of the operator (IMG) and the agent (AGENT_IMG).
	docker build --target operator --build-arg VERSION=$(VERSION) --tag $(IMG) .
	docker build --target agent --build-arg VERSION=$(VERSION) --tag $(AGENT_IMG) .

##@ Check

.PHONY: verify-generated
verify-generated: $(CONTROLLER_GEN) ## Fail if generated files are not what generate would write.
	$(call say,comparing generated files)
	@test/tools/generate.sh $(CONTROLLER_GEN) --check

.PHONY: vet
vet: ## Run go vet over every module.
	@for module in $(MODULES); do \
		printf '==> go vet in %s\n' "$$module"; (cd "$$module" && $(GO) vet ./...); done

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Run golangci-lint with logcheck and the linter of Kubernetes APIs.
	@for module in $(MODULES); do \
		printf '==> linting %s\n' "$$module"; (cd "$$module" && $(GOLANGCI_LINT) run); done

.PHONY: lint-fix
lint-fix: $(GOLANGCI_LINT) ## Let the linters repair what they can.
	@$(GOLANGCI_LINT) run --fix

##@ Test

.PHONY: deps
deps: ## Install the programs that agents and tests call, if they are missing (Debian, Ubuntu).
	@test/tools/deps.sh

.PHONY: controlplane
controlplane: ## Build etcd, kube-apiserver, kube-controller-manager and kubectl for test clusters, once.
	@$(GO) run ./test/cluster/build

# The same file each time: a test that has seen another environment is run again.
flaky := $(CACHE)/flaky
.PHONY: test
test: deps controlplane build ## Run every test of every module.
	@$(GO) run ./test/cluster/build --kube-proxy
	$(call say,building promtool)
	@CGO_ENABLED=0 GOFLAGS='$(GOFLAGS) -tags=remove_all_sd' $(GO) -C test/tools/promtool tool promtool --version >/dev/null
	$(call say,running every test)
	@mkdir -p $(CACHE); : >"$(flaky)"; trap 'sed "1s/^/==> specs that failed before they passed:\n/" "$(flaky)"' EXIT; \
	export SPEC_ATTEMPTS=$(SPEC_ATTEMPTS) SPEC_FLAKY="$(flaky)"; \
	for module in $(MODULES); do \
		printf '==> go test in %s\n' "$$module"; \
		(cd "$$module" && $(test-env) $(GO) test -p $(TEST_PARALLEL) -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...); done

# How long every fuzz test looks for input of its own. A plain go test gives each what is known already.
FUZZTIME ?= 30s
.PHONY: fuzz
fuzz: ## Give everything that is parsed input that nobody would write, for FUZZTIME each.
	@grep -rEo --include='*_fuzz_test.go' --include='fuzz_test.go' '^func Fuzz\w+' dataplane | sed 's/:func / /' | \
	while read -r file fuzz; do \
		printf '==> %s in %s\n' "$$fuzz" "$$(dirname "$$file")"; \
		$(GO) test "./$$(dirname "$$file")" -run '^$$' -fuzz "^$$fuzz\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s; done

# What chaos does: so many faults, drawn with that seed. A failure prints both, and the steps that led to it.
CHAOS_SEED ?= 1
CHAOS_STEPS ?= 1000
.PHONY: chaos
chaos: deps controlplane build ## Break live clusters in CHAOS_STEPS ways drawn at random with CHAOS_SEED, in each mode, under traffic.
	$(call say,taking $(CHAOS_STEPS) steps in each mode with seed $(CHAOS_SEED))
	@CHAOS_SEED=$(CHAOS_SEED) CHAOS_STEPS=$(CHAOS_STEPS) $(GO) test -p 1 -count 1 -timeout 12h -v ./test/chaos/... -ginkgo.timeout 12h -ginkgo.v -ginkgo.no-color

# default, or full: up to 20,000 Services, for hours. Alone: make bench-proxies.
BENCH_SIZE ?= default
.PHONY: bench-proxies
bench-proxies: deps controlplane build ## Put the agent and kube-proxy in all its modes side by side, as whole programs.
	@$(GO) run ./test/cluster/build --kube-proxy
	$(call say,measuring whole proxies ($(BENCH_SIZE) size))
	@$(GO) run ./test/bench/proxies -size=$(BENCH_SIZE)

.PHONY: bench
bench: bench-proxies ## Run every benchmark; those of rules and packets beside kube-proxy, with a table at the end.
	$(call say,running every benchmark)
	@$(GO) test -run '^$$' -bench . -benchmem -timeout $(TEST_TIMEOUT) $$($(GO) list ./... | grep -v /test/)
	@$(GO) test -run '^$$' -bench . -timeout $(TEST_TIMEOUT) ./test/bench
	@$(GO) test -run '^$$' -bench . -benchtime 1x -timeout $(TEST_TIMEOUT) ./test/bench/ipvs
	$(call say,rolling a change out to 5000 nodes)
	@SCALE_NODES=5000 $(GO) test -timeout $(TEST_TIMEOUT) -v ./controllers/config -ginkgo.label-filter=scale -ginkgo.v \
		-ginkgo.no-color | grep -E '^ +([0-9]+%? |all of it|idle|memory)|^(ok|FAIL)'

##@ Try it

.PHONY: demo
demo: deps controlplane build ## Bring up a cluster on this machine, send connections through Services, take it down.
	@$(GO) run ./test/demo

.PHONY: dev
dev: deps controlplane build ## Bring up the same cluster and leave it running.
	@$(GO) run ./test/dev

.PHONY: dev-down
dev-down: ## End what dev started.
	@$(GO) run ./test/dev down

##@ Use a cluster (the current context of kubectl)

.PHONY: install
install: $(kubectl) ## Create the CRDs.
	kubectl apply --server-side -k config/crd

.PHONY: uninstall
uninstall: $(kubectl) ## Delete the CRDs, and with them every object of both kinds.
	kubectl delete --ignore-not-found -k config/crd

# config/default with the images of this build, without touching a tracked file. The operator is told the image of the
# agents, which it starts.
DEPLOY := .cache/deploy
.PHONY: $(DEPLOY)
$(DEPLOY):
	@mkdir -p $@
	@printf '%s\n' 'resources: [../../config/default]' \
		'patches:' \
		'- patch: |' \
		'    apiVersion: apps/v1' \
		'    kind: Deployment' \
		'    metadata: {name: service-proxy-operator, namespace: service-proxy-system}' \
		'    spec: {template: {spec: {containers: [{name: operator, image: "$(IMG)",' \
		'      env: [{name: RELATED_IMAGE_AGENT, value: "$(AGENT_IMG)"}]}]}}}' \
		>$@/kustomization.yaml

.PHONY: deploy
deploy: $(kubectl) $(DEPLOY) ## Install CRDs and the operator (IMG), which starts agents (AGENT_IMG).
	kubectl apply --server-side -k $(DEPLOY)

# Agents and their guard belong to the CRDs and go with them. What they wrote on the nodes stays there: docs/install.md.
.PHONY: undeploy
undeploy: $(kubectl) $(DEPLOY) ## Remove what deploy installed, and what the operator started.
	kubectl delete --ignore-not-found -k $(DEPLOY)

# Built with CGO off and from test/tools, so that the versions are those of test/tools/go.mod and nobody else's.
$(CONTROLLER_GEN):
	$(call say,building controller-gen)
	@cd test/tools && $(GO) build -o $@ sigs.k8s.io/controller-tools/cmd/controller-gen

$(GOLANGCI_LINT):
	$(call say,building golangci-lint (a few minutes))
	@cd test/tools && $(GO) build -o $@ ./golangci-lint
