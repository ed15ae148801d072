# The commands of the project. Each one brings what it needs (scripts/setup) and is quiet about it
# when nothing is missing.

.DEFAULT_GOAL := help
SHELL := /bin/sh

# A toolchain that was installed a minute ago is not yet on the PATH of this shell.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Build the service and run it until Ctrl-C (ARGS=… are its arguments)
	@scripts/setup service
	@exec cargo run --release --locked --bin plimsoll -- $(ARGS)

.PHONY: burst
burst: ## Let 10,000 clients withdraw at once from the running service (ARGS=… as for the tester)
	@scripts/setup client
	@exec cargo run --release --locked --bin concurrency-tester -- $(ARGS)

URL ?= http://127.0.0.1:3000

.PHONY: load
load: ## 10,000 connections for a minute on each classic approach of the running service (URL=…)
	@scripts/setup client wrk
	@ulimit -n "$$(ulimit -Hn)" && for approach in self transaction-pessimistic-locking; do \
		wrk -t2 -c10000 -d60s --timeout 60s -s loadtest/patch_request.lua \
			"$(URL)/approach/$$approach/balance" || exit; \
	done

.PHONY: bench-hot
bench-hot: ## Measure one hot account beside its ceilings and alternatives (ARGS=… as --help says)
	@scripts/setup wrk nginx pgbench venv
	@cargo build --release --locked --bins --example echo
	@exec python3 -B loadtest/bench_hot.py $(ARGS)

.PHONY: bench-failures
bench-failures: ## Break things under load and measure what clients see (ARGS=… as --help says)
	@scripts/setup pgbench venv
	@cargo build --release --locked --bin plimsoll
	@exec python3 -B loadtest/bench_failures.py $(ARGS)

.PHONY: test
test: ## Run all tests, on a PostgreSQL of their own (ARGS=… select some)
	@scripts/setup
	@cargo test --locked $(ARGS)

.PHONY: simulate
simulate: ## Run a million simulated stories of a lane (RUNS=…, or SECONDS=… for so long, SEED=…)
	@scripts/setup client
	@SIMULATE_RUNS=$(or $(RUNS),$(if $(SECONDS),,1000000)) SIMULATE_SECONDS=$(SECONDS) \
		SIMULATE_SEED=$(SEED) cargo test --release --locked --lib simulation -- --nocapture

.PHONY: fuzz-api
fuzz-api: ## Throw 10,000 generated requests at a service of its own (ARGS=… go to schemathesis)
	@scripts/setup venv
	@scripts/fuzz-api $(ARGS)

.PHONY: check
check: ## Everything that must hold before a change goes in: format, lints, documentation, tests
	@scripts/setup
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps
	cargo test --locked

.PHONY: setup
setup: ## Install what is missing: PostgreSQL's server, a C compiler (and check the Rust toolchain)
	@scripts/setup
