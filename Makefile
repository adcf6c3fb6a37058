# The two commands: `make run` and `make test`. Each installs first what it needs on Debian; elsewhere it says what.
.PHONY: run test lint doc config-check deny fuzz

CONFIG ?= config/gateway.yaml
CARGO ?= cargo
FUZZ_SECONDS ?= 12
# Every target there is.
FUZZ_TARGETS ?= json topic yaml cloudevents codecs mapping_loader expression mqtt http store policy credentials feed

# Builds the gateway and starts it in the foreground; ctrl-c drains it.
run:
	@scripts/install-build
	$(CARGO) run --release --locked --package gateway --bin openmesh -- run --config $(CONFIG)

# Everything that has to hold; `.ci/run` calls exactly this.
test:
	@scripts/install-build c++:g++
	@integration/install
	$(MAKE) lint doc
	OPENMESH_BIN=$(CURDIR)/target/debug/openmesh $(CARGO) test --workspace --locked
	$(MAKE) config-check deny fuzz

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

# The shipped configuration is valid and its mappings do what their own tests say; after the tests, which build the
# binary.
config-check:
	target/debug/openmesh check --config $(CONFIG)
	target/debug/openmesh test --config $(CONFIG)

# Licences, sources and banned crates of every dependency. `integration/install` brings the tool.
deny:
	target/tools/bin/cargo-deny --all-features check licenses bans sources

# Every parser of hostile bytes, for a while each.
fuzz:
	fuzz/run $(FUZZ_SECONDS) $(FUZZ_TARGETS)
