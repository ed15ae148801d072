# The commands of the project. Each one first installs its missing requirements with scripts/setup,
# which prints nothing if none is missing.

.DEFAULT_GOAL := help
SHELL := /bin/sh

# A toolchain that was just installed is not yet on the PATH of this shell.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Build the service and run it until Ctrl-C (ARGS=… are passed to it)
	@scripts/setup service
	@exec cargo run --release --locked --bin plimsoll -- $(ARGS)

.PHONY: burst
burst: ## Let 10,000 clients withdraw at once from the running service (ARGS=… go to the tester)
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
bench-hot: ## Measure one hot account beside its upper limits and alternatives (ARGS=--help lists all)
	@scripts/setup wrk nginx pgbench curl venv
	@cargo build --release --locked --bins --example echo --example watchers
	@exec python3 -B loadtest/bench_hot.py $(ARGS)

.PHONY: compare
compare: ## Measure all approaches beside other stacks and write a report (QUICK=1: under 10 minutes)
	@scripts/setup wrk nginx pgbench venv node
	@python3 -B -m unittest discover -q -s loadtest -t loadtest
	@cargo build --release --locked --bins --example echo --example open_loop --example charts
	@exec python3 -B loadtest/bench_compare.py $(if $(QUICK),--quick) $(ARGS)

.PHONY: bench-failures
bench-failures: ## Cause failures under load and measure their effect on clients (ARGS=--help lists all)
	@scripts/setup pgbench nginx venv
	@cargo build --release --locked --bin plimsoll --example flood
	@exec python3 -B loadtest/bench_failures.py $(ARGS)

.PHONY: test
test: ## Run all tests on a PostgreSQL of their own (ARGS=… select some)
	@scripts/setup chromium
	@cargo test --locked $(ARGS)

.PHONY: simulate
simulate: ## Run a million simulated histories of a lane (RUNS=… or SECONDS=… limits them, SEED=…)
	@scripts/setup client
	@SIMULATE_RUNS=$(or $(RUNS),$(if $(SECONDS),,1000000)) SIMULATE_SECONDS=$(SECONDS) \
		SIMULATE_SEED=$(SEED) cargo test --release --locked --lib simulation -- --nocapture

.PHONY: faults
faults: ## Break everything around two instances for 9 minutes, and check every answer (ARGS=--help)
	@scripts/setup faults
	@cargo build --release --locked --bins
	@exec cargo run --release --locked --bin concurrency-tester -- faults --minutes 7 $(ARGS)

MINUTES ?= 30

.PHONY: faults-full
faults-full: ## The same for half an hour (MINUTES=… for another time)
	@scripts/setup faults
	@cargo build --release --locked --bins
	@exec cargo run --release --locked --bin concurrency-tester -- faults --minutes $(MINUTES) $(ARGS)

.PHONY: planted
planted: ## Plant bugs in a small service: the witness must catch each (SEEDS=10, ARGS=--release)
	@scripts/setup
	@PLANTED_SEEDS=$(or $(SEEDS),10) cargo test --locked $(ARGS) --test it planted_bugs -- \
		--nocapture --test-threads=1

.PHONY: fuzz-api
fuzz-api: ## Send 10,000 generated requests to a service of its own (ARGS=… go to schemathesis)
	@scripts/setup venv
	@scripts/fuzz-api $(ARGS)

.PHONY: deny
deny: ## Check the licences and the sources of all dependencies
	@scripts/deny

.PHONY: check
check: ## Check everything that a change must pass: format, lints, documentation, dependencies, faults, tests
	@scripts/setup chromium
	@scripts/deny --if-possible
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps
	cargo test --locked --no-run
	"$${CARGO_TARGET_DIR:-target}/debug/concurrency-tester" faults --quick
	cargo test --locked

.PHONY: setup
setup: ## Install PostgreSQL's server and a C compiler if missing, and check the Rust toolchain
	@scripts/setup
