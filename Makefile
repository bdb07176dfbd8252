# What CI runs is what these targets run: .ci/run calls "make lint test".
SHELL := /bin/bash
.DEFAULT_GOAL := help

GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# Packages tested at the same time.
PROCS   ?= $(shell nproc)
# Rounds of the long repetitions.
SOAK    ?= 200

# Modules of their own, so that their dependencies stay out of the product's go.mod.
NESTED := .ci/tools $(patsubst %/go.mod,%,$(wildcard examples/lab/*/go.mod))
TOOLS  := $(CURDIR)/bin/tools
# Runs a command against a lab with all servers.
LAB    := bin/lab exec --

# Only "make demo KUBECONFIG=…" uses one's own cluster; a variable of the shell never does.
ifneq ($(origin KUBECONFIG),command line)
unexport KUBECONFIG
endif

.PHONY: help build test lint verify demo bench soak lab lab-shell lab-build test-node bin/purser bin/lab tools

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: bin/purser ## build bin/purser, a static binary

bin/purser:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./cmd/purser

bin/lab:
	CGO_ENABLED=0 $(GO) build -trimpath -o $@ ./examples/lab/cmd/lab

test: bin/lab ## run all tests that need no root, against real servers (needs gcc for -race, and PostgreSQL)
	$(LAB) $(GO) test -race -p $(PROCS) -timeout 40m ./...

tools:
	@mkdir -p $(TOOLS)
	@$(GO) build -C .ci/tools -o $(TOOLS)/ ./imports honnef.co/go/tools/cmd/staticcheck

lint: tools ## check format, vet, staticcheck, unused code, imports between packages, go.mod files
	@out="$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go'))"; \
		if [ -n "$$out" ]; then printf 'gofmt would change:\n%s\n' "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -C .ci/tools ./...
	$(GO) test -C .ci/tools ./...
	$(TOOLS)/staticcheck ./...
	$(TOOLS)/imports
	@out="$$(git grep -nE 'TODO|FIXME|\.(Skip|Skipf|SkipNow)\(' -- '*.go')"; \
		if [ -n "$$out" ]; then printf 'unfinished work or a skipped test:\n%s\n' "$$out"; exit 1; fi
	$(GO) mod tidy -diff
	@for dir in $(NESTED); do echo "$(GO) mod tidy -diff ($$dir)"; $(GO) -C $$dir mod tidy -diff || exit 1; done

# Known vulnerabilities are not checked here: govulncheck needs its database over the network.
verify: lint ## lint, generated files are fresh, downloaded modules are unchanged
	$(GO) generate ./...
	@out="$$(git status --porcelain -- docs/schemas)"; \
		if [ -n "$$out" ]; then printf 'generated files differ from the commit:\n%s\n' "$$out"; exit 1; fi
	$(GO) mod verify
	@for dir in $(NESTED); do echo "$(GO) mod verify ($$dir)"; $(GO) -C $$dir mod verify || exit 1; done

demo: build ## show the main job on real servers; KUBECONFIG=file uses one's own cluster, DEMO_DIR=dir keeps everything
	$(if $(DEMO_DIR),DEMO_DIR='$(abspath $(DEMO_DIR))') $(GO) run ./examples/demo

# Only figures go to standard output. A bench starts the servers that it needs: those that it does not would disturb it.
bench: ## measure the figures of docs/performance.md (BENCH=name for one), each as a line of JSON
	@$(GO) run ./examples/bench $(BENCH)

soak: bin/lab ## run the long repetitions (SOAK=rounds)
	$(LAB) $(GO) test -race -count=1 -run '^TestSoak' -timeout 12h ./reconciler -args -soak=$(SOAK)

lab: bin/lab ## run the servers until interrupted
	bin/lab up

# Inside, all of 10.64.0.0/16 belongs to this machine: processes can listen on the addresses of pods.
lab-shell: lab-build ## run CMD (default a shell) with the servers in a network of its own, without root
	unshare -Urnpf --kill-child --mount-proc sh -c \
		'ip link set lo up && ip route add local 10.64.0.0/16 dev lo && bin/lab exec -- $(or $(CMD),/bin/bash)'

lab-build: bin/lab ## build the servers' binaries that are missing
	bin/lab build

test-node: ## run the tests that need root and a real node: there are none yet
	@echo 'no test needs root and a real node yet'
