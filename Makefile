# Edgetrail: `make run` and `make test` are all that a fresh machine needs besides Rust, a C compiler, make and Python.

PYTHON ?= python3
VENV   := $(CURDIR)/.venv
CARGO  ?= cargo
DIR    ?= .edgetrail
export PATH := $(VENV)/bin:$(PATH)

.PHONY: help build run test check torture bench setup clean deny

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## all three binaries, unoptimised
	$(CARGO) build --locked --workspace --bins

run: build ## builds, then starts collector and agent on this machine, loopback only
	@exec "$$(tests/target-dir)/debug/edgetrail-collector" quickstart --dir "$(DIR)" $(ARGS)

setup: ## what the tests need besides the compiler: peer tools from the system's packages and the AWS CLI in .venv
	tests/setup

check: ## formatting, lints, licences, and that each seeded bug still fits the code
	$(CARGO) fmt --all --check
	tests/seeded-bugs --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p edgetrail-agent --features s3-source --all-targets -- -D warnings
	$(MAKE) deny

deny: ## licences, bans and sources of all dependencies, where cargo-deny is installed
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check licenses bans sources; \
	else echo "cargo-deny is not installed: licences not checked (cargo install --locked cargo-deny)"; fi
	@! $(CARGO) tree --locked --workspace -i aws-lc-rs >/dev/null 2>&1 || { echo "a second TLS provider (aws-lc-rs) is in the tree"; exit 1; }
	@! $(CARGO) tree --locked --workspace -i openssl-sys >/dev/null 2>&1 || { echo "OpenSSL is in the tree"; exit 1; }

test: setup build ## the short tier of all tests
	$(PYTHON) tests/chain/vectors.py check
	$(PYTHON) -m unittest discover -s tests/chain
	tests/run-tests
	tests/fuzz/run --seconds 10

torture: setup ## the long tier: hours; goes on where it was stopped, and adds to docs/reliability.md
	tests/torture

bench: ## whole journey and micro-benchmarks; the figures stand in docs/performance.md
	$(CARGO) build --locked --profile dist --workspace --bins
	$(CARGO) bench --locked -p edgetrail-proto
	tests/bench/run
	tests/bench/audit
	tests/bench/catch-up

clean:
	$(CARGO) clean
	rm -rf "$(VENV)"
