# What a developer does with Myelin: `make run` and `make test`. Both install what is missing first.

# The homeserver of `make run`: its configuration, if there is a file, else the defaults.
CONFIG ?= $(wildcard myelin.toml)
VENV   ?= target/python
CARGO  ?= cargo

.PHONY: all run setup test test-rust test-clients lint crash-test model-test interop-test fuzz bench join-cost sytest docs

all: lint test

## Runs the server: http://127.0.0.1:8008, data in ./data. What to do next is printed.
run: setup
	$(CARGO) run --release --bin myelin -- serve $(if $(CONFIG),--config $(CONFIG))

## Installs what is missing on Debian and Ubuntu (as root), or says what to install.
setup:
	@tools/setup

## All tests: Rust's, with a private Postgres, and a conversation of two clients of another project.
test: test-rust test-clients

test-rust: setup
	$(CARGO) test --workspace --no-fail-fast

test-clients: setup $(VENV)/installed
	$(CARGO) test --workspace --no-run
	MYELIN_BIN=$${CARGO_TARGET_DIR:-target}/debug/myelin $(VENV)/bin/python tests/clients/conversation.py

$(VENV)/installed: tests/clients/requirements.txt | setup
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement $<
	touch $@

## What reviewers do not have to look for: format, lints, documentation.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

docs:
	$(CARGO) doc --workspace --no-deps --document-private-items --open

## Kills the server and its Postgres under load, again and again.
crash-test: setup
	$(CARGO) build --release --workspace --bin myelin
	MYELIN_BIN=$${CARGO_TARGET_DIR:-target}/release/myelin tests/crash/run

## People on two servers do what comes to their minds; what /sync told their devices is compared with what is true.
model-test: setup
	$(CARGO) build --release --workspace --bin myelin
	MYELIN_BIN=$${CARGO_TARGET_DIR:-target}/release/myelin tests/model/run $(MODEL)

## Feeds what other servers may send with nonsense, for a minute and a half.
fuzz:
	$(CARGO) run --release --package myelin-core --example fuzz -- 18

## Myelin and Synapse in one room: each scenario in both directions and several room versions.
interop-test: setup $(VENV)/interop
	$(CARGO) build --workspace --bin myelin
	MYELIN_BIN=$${CARGO_TARGET_DIR:-target}/debug/myelin $(VENV)/interop/bin/python tests/interop/run.py $(INTEROP)

$(VENV)/interop: tests/interop/requirements.txt | setup
	python3 -m venv $@
	$@/bin/pip install --quiet --requirement $<
	touch $@

## What it costs to join a room of 20,000 members that another server has.
join-cost: setup $(VENV)/interop
	$(CARGO) build --release --workspace --bin myelin
	MYELIN_BIN=$${CARGO_TARGET_DIR:-target}/release/myelin $(VENV)/interop/bin/python tests/cost/join.py

## Short measurements of a server that they start themselves.
bench: setup
	$(CARGO) bench --workspace

## The public test suite; SYTEST_DIR names an unpacked copy of it.
sytest: setup
	$(CARGO) build --release --workspace --bin myelin
	MYELIN_BIN=$${CARGO_TARGET_DIR:-target}/release/myelin tests/sytest/run
