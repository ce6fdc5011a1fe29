# What a user and a developer type. `make demo` and `make test` work on a bare machine with Rust.

DEMO = fixtures/kvm/kvm-loaded.pcap.zst

.PHONY: demo test check audit bench fuzz setup install

setup:
	@scripts/setup.sh

# Build, and analyse a stored trace of a real migration.
demo: setup
	cargo build --release --quiet --bin phasescope
	$${CARGO_TARGET_DIR:-target}/release/phasescope analyze $(DEMO)

# All tests.
test: setup
	cargo test --workspace --features tables --quiet

# What a change must pass.
check: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features tables -- -D warnings
	cargo clippy --workspace --all-targets --no-default-features -- -D warnings

# The dependencies: licences, advisories, sources, and whether all are used. Needs cargo-deny and
# cargo-machete.
audit:
	cargo deny --all-features check
	cargo machete

# Speed beside other tools, as ratios. BENCH_MIB=4096 for a larger trace.
# BENCH_OLD=PROGRAM: beside another build, turn by turn.
bench: setup
	benches/build.sh
	benches/analyze.sh $${BENCH_MIB:-1024}
	benches/scale.sh
	benches/live.sh

# Hostile input, long: FUZZ_RUNS changed inputs for each target (fuzz/README.md). FUZZ_SEED=2 for
# others, FUZZ_TARGET=http for one target alone.
FUZZ_RUNS ?= 20000
FUZZ_SEED ?= 1
fuzz: setup
	PHASESCOPE_FUZZ_RUNS=$(FUZZ_RUNS) PHASESCOPE_FUZZ_SEED=$(FUZZ_SEED) \
	$(if $(FUZZ_TARGET),PHASESCOPE_FUZZ_TARGET=$(FUZZ_TARGET)) \
	cargo test --quiet --test fuzz_replay --test limits

install: setup
	cargo install --locked --path . --features tables
