# What a user and a developer type. `make demo` and `make test` work on a bare machine with Rust.

DEMO = fixtures/kvm/kvm-loaded.pcap.zst

.PHONY: demo test check bench setup install

setup:
	@scripts/setup.sh

# Build, and analyse a stored trace of a real migration.
demo: setup
	cargo build --release --quiet --bin phasescope
	$${CARGO_TARGET_DIR:-target}/release/phasescope analyze $(DEMO)

# All tests.
test: setup
	cargo test --workspace --quiet

# What a change must pass.
check: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --no-default-features -- -D warnings

# Speed beside other tools, as ratios. BENCH_MIB=4096 for a larger trace.
bench: setup
	benches/analyze.sh $${BENCH_MIB:-1024}

install: setup
	cargo install --locked --path .
