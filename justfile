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

# Feeds each parser mutated and random bytes: `just fuzz 1000000` rounds each.
fuzz ROUNDS="200000":
    CREDENCE_FUZZ_ROUNDS={{ROUNDS}} cargo test --release -p credence-fuzz -- --nocapture

# The same by coverage, where a nightly toolchain is present: `just fuzz-coverage jwt 60` seconds.
fuzz-coverage TARGET SECONDS="60":
    CREDENCE_FUZZ_TARGET={{TARGET}} RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1" \
      cargo +nightly run --release --manifest-path tests/fuzz/coverage/Cargo.toml --target x86_64-unknown-linux-gnu \
      -- -max_total_time={{SECONDS}}

# The file systems of the images, around a binary that is linked statically.
image:
    RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' cargo build --release -p credence --target x86_64-unknown-linux-gnu
    rm -rf deploy/image/server deploy/image/agent
    for role in server agent; do deploy/image/layout.sh "${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/release/credence" "spire-$role" "deploy/image/$role"; done

# What tests/e2e/image.rs says of the binary under test, said of the one in the images. Needs root.
image-test: image
    CREDENCE_IMAGE_BINARY="$PWD/deploy/image/server/opt/spire/bin/spire-server" cargo test -p credence --test e2e image
