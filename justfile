# What a developer types. `just check` is the gate that CI runs.

default: check

# Format, lints, docs and tests.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    cargo test --workspace

# A trust domain on this machine, until Ctrl-C.
dev *ARGS:
    cargo run --release -- dev {{ARGS}}

# The figures of tests/bench/README.md.
bench *ARGS:
    cargo build --release -p credence
    cargo run --release -p credence-bench -- {{ARGS}}

# Feeds each parser random bytes for a while: `just fuzz 60` seconds each.
fuzz SECONDS="30":
    CREDENCE_FUZZ_SECONDS={{SECONDS}} cargo test --release -p credence-fuzz -- --nocapture
