#!/usr/bin/env bash
# The one test command, for people and for CI. Run it from anywhere; it needs cargo and python3.
#
# It installs what it lacks when it may (apt-get as root or through passwordless sudo, rustup
# components and a nightly toolchain, cargo-deny and cargo-fuzz, Python packages into .venv). What it
# cannot have is named in a line that begins with "skipped:"; under CI=true that is a failure instead.
# A failed step does not keep later ones from running. The last line counts the steps, and the exit
# code is 0 only if none failed.
#
# Each fuzz target runs for FUZZ_SECONDS, 5 unless set otherwise; with FULL=1, for 30. With FULL=1, Miri runs
# tests that take it minutes, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fuzz_seconds=${FUZZ_SECONDS:-$([[ ${FULL:-} == 1 ]] && echo 30 || echo 5)}
MOST_PACKAGES=45
passed=() failed=() skipped=() times=()
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

main() {
    if [[ -z ${CARGO_TERM_COLOR:-} && ! -t 1 ]]; then
        export CARGO_TERM_COLOR=never
    fi
    provide_component rustfmt fmt && step "format" cargo fmt --all --check
    provide_component clippy clippy &&
        step "clippy" cargo clippy --locked --workspace --all-targets -- -D warnings
    step "documentation" env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --workspace
    step "tests" tests
    step "a stranger's crate" stranger
    step "packages" cargo package --locked --allow-dirty --package ibverbs-dl --package doorbell \
        --target-dir target/package-check
    provide_subcommand deny "dependencies" &&
        step "dependencies" cargo deny --locked check bans licenses sources
    provide_nightly "miri" && provide_miri && step "miri" miri
    provide_nightly "fuzzing" && provide_subcommand fuzz "fuzzing" && step "fuzzing" fuzzing
    step "release build" cargo build --locked --release
    step "software verbs device" cargo build --locked --release --package verbs-device
    step "virtual machine" virtual_machine
    if provide_python; then
        step "golden vectors" golden_vectors
        step "interop with spead2" interop
    fi
    summary
}

# Tests that make network namespaces take root, which CI may have for the asking: the test programs
# are then run by sudo, and built without.
tests() {
    local runner=()
    if [[ ${CI:-} == true && $EUID -ne 0 ]] && sudo -n true 2>/dev/null; then
        runner=("CARGO_TARGET_$(uname -m | tr a-z A-Z)_UNKNOWN_LINUX_GNU_RUNNER=sudo -n -E")
    fi
    provide ip iproute2
    # Something to write with on a plot.
    [[ -d /usr/share/fonts/truetype ]] || install_package fonts-dejavu-core
    env "${runner[@]}" cargo test --locked --workspace
}

# A crate of somebody else's, outside of this workspace and its patches, that has the library and nothing
# else: README's example for its main. What it brings along is counted.
stranger() {
    local crate="$scratch/stranger" packages unwanted
    mkdir -p "$crate/src"
    cat >"$crate/Cargo.toml" <<TOML
[package]
name = "stranger"
version = "0.0.0"
edition = "2024"

[dependencies]
doorbell = { path = "$PWD" }

[workspace]
TOML
    {
        echo 'fn main() -> Result<(), Box<dyn std::error::Error>> {'
        # The last of README's blocks of Rust.
        awk '/^```rust$/ { inside = 1; text = ""; next } /^```$/ { inside = 0 } inside { text = text $0 "\n" }
            END { printf "%s", text }' README.md
        echo 'Ok(()) }'
    } >"$crate/src/main.rs"
    cargo run --quiet --manifest-path "$crate/Cargo.toml" --target-dir target/stranger
    packages=$(cd "$crate" && cargo tree --quiet --edges normal --prefix none --format '{p}' |
        awk '{ print $1 }' | sort -u | grep -v '^stranger$')
    echo "it brings along $(wc -l <<<"$packages") packages, of which $MOST_PACKAGES may be"
    unwanted=$(grep -xE 'clap.*|indicatif|plotters.*|png|toml.*|glob|ibverbs(-sys)?' \
        <<<"$packages" || true)
    if [[ -n $unwanted ]]; then
        echo "of them the program's, not the library's: $unwanted"
        return 1
    fi
    [[ $(wc -l <<<"$packages") -le $MOST_PACKAGES ]]
}

# Who may touch which bytes of memory when, interpreted: Miri sees accesses that Rust forbids and no test does.
# It knows neither mmap, poll nor sockets, so it runs what needs none. Property tests are slow in it.
miri() {
    local laws=(packets_tile_heaps uniform_packets both_orders packets_of_first_heaps runs_keep_to_limits)
    [[ ${FULL:-} != 1 ]] || laws=()
    env MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=1 \
        cargo +nightly miri test --locked --lib --package doorbell --target-dir target/miri -- \
        plan:: region:: sender::completion sender::substreams "${laws[@]/#/--skip=}"
}

# Each target from its seeds. What the fuzzer finds on the way is left in the scratch folder, but for
# input that fails.
fuzzing() {
    local target log="$scratch/fuzzer" status=0
    provide g++ g++
    cargo +nightly fuzz build --target-dir target/fuzz
    for target in $(cargo +nightly fuzz list); do
        mkdir -p "$scratch/corpus/$target" "$scratch/artifacts/$target"
        cp fuzz/seeds/"$target"/* "$scratch/corpus/$target"
        if cargo +nightly fuzz run --target-dir target/fuzz "$target" "$scratch/corpus/$target" -- \
            -max_total_time="$fuzz_seconds" -artifact_prefix="$scratch/artifacts/$target/" >"$log" 2>&1; then
            # What the seeds reach, and what was reached.
            grep -E 'INITED|DONE' "$log" | sed "s/^/$target /"
        else
            cat "$log"
            status=1
        fi
        save_artifacts "$target"
    done
    return "$status"
}

# Slow input is kept like failing input, and fails nothing.
save_artifacts() {
    local artifact
    for artifact in "$scratch/artifacts/$1"/*; do
        [[ -e $artifact ]] || continue
        mkdir -p "fuzz/artifacts/$1"
        cp "$artifact" "fuzz/artifacts/$1"
        artifact=fuzz/artifacts/$1/${artifact##*/}
        echo "target $1 keeps input in $artifact: cargo +nightly fuzz run --target-dir target/fuzz $1 $artifact"
    done
}

# The checked-in vectors and seeds of the fuzzer are what spead2 makes of their specification today.
golden_vectors() {
    .venv/bin/python tests/golden/generate.py -o "$scratch/heaps.jsonl"
    if ! cmp tests/golden/heaps.jsonl "$scratch/heaps.jsonl"; then
        echo "tests/golden/heaps.jsonl is stale: write it anew with tests/golden/generate.py -o"
        return 1
    fi
    PYTHONDONTWRITEBYTECODE=1 .venv/bin/python fuzz/seeds.py "$scratch/seeds"
    if ! diff -r fuzz/seeds "$scratch/seeds"; then
        echo "fuzz/seeds is stale: write it anew with fuzz/seeds.py"
        return 1
    fi
}

# spead2's receiver, captures byte by byte, system calls counted by strace, bad input, verbs on a
# software device, several senders started by mpirun.
interop() {
    if [[ " ${failed[*]} " == *" release build "* || " ${failed[*]} " == *" software verbs device "* ]]; then
        echo "not run: there is no release build to test"
        return 1
    fi
    provide strace strace
    provide valgrind valgrind
    provide ip iproute2
    provide mpirun openmpi-bin
    local runner=()
    # Network namespaces and large socket buffers take root, which CI may have for the asking.
    if [[ ${CI:-} == true && $EUID -ne 0 ]] && sudo -n true 2>/dev/null; then
        runner=(sudo -n -E)
    fi
    "${runner[@]}" env PYTHONDONTWRITEBYTECODE=1 .venv/bin/python -m pytest -q tests/interop
}

# step NAME COMMAND...: runs the command under a heading, and books how it ended.
step() {
    local name=$1 began=$SECONDS status outcome log="$scratch/log"
    shift
    printf '\n== %s\n' "$name"
    # Not as a condition: bash would ignore `set -e` inside it.
    set +e
    (set -e; "$@") </dev/null 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    set -e
    if [[ $status -eq 0 ]]; then
        passed+=("$name")
        outcome="ok"
    else
        failed+=("$name")
        outcome="FAILED (exit code $status)"
    fi
    printf -- '-- %s: %s, %d s\n' "$name" "$outcome" $((SECONDS - began))
    times+=("$(printf '%6d s  %-24s %s' $((SECONDS - began)) "$name" "$outcome")")
    local line
    while IFS= read -r line; do
        book_skip "${line#skipped: }"
    done < <(grep -a '^skipped: ' "$log" || true)
}

# skip WHAT REASON: names what is not tested.
skip() {
    printf '\nskipped: %s: %s\n' "$1" "$2"
    book_skip "$1: $2"
}

book_skip() {
    if [[ ${CI:-} == true ]]; then
        failed+=("skipped, which CI may not: $1")
    else
        skipped+=("$1")
    fi
}

summary() {
    local entry
    printf '\n== summary, %d s\n' "$SECONDS"
    printf '%s\n' "${times[@]}"
    for entry in "${failed[@]}"; do printf 'failed: %s\n' "$entry"; done
    for entry in "${skipped[@]}"; do printf 'skipped: %s\n' "$entry"; done
    printf '%d passed, %d failed' "${#passed[@]}" "${#failed[@]}"
    if [[ ${#skipped[@]} -gt 0 ]]; then
        printf ', %d skipped' "${#skipped[@]}"
    fi
    printf '\n'
    [[ ${#failed[@]} -eq 0 ]]
}

# provide_component NAME SUBCOMMAND: a rustup component, by its cargo subcommand.
provide_component() {
    cargo "$2" --version >/dev/null 2>&1 && return
    rustup component add "$1" && return
    skip "$1" "cargo has no \`$2\`, and \`rustup component add $1\` did not bring it"
    return 1
}

# provide_subcommand NAME STEP: cargo-NAME, for a step.
provide_subcommand() {
    cargo "$1" --version >/dev/null 2>&1 && return
    cargo install --locked "cargo-$1" && return
    skip "$2" "cargo has no \`$1\`, and \`cargo install cargo-$1\` did not bring it"
    return 1
}

# provide_nightly STEP: a toolchain with Miri, and with the sanitizers that cargo-fuzz asks for, which stable has
# not.
provide_nightly() {
    cargo +nightly --version >/dev/null 2>&1 && return
    rustup toolchain install nightly --profile minimal --no-self-update && return
    skip "$1" "there is no nightly toolchain, and \`rustup toolchain install nightly\` did not bring it"
    return 1
}

# Miri, and the sources of the standard library, which it interprets, too.
provide_miri() {
    cargo +nightly miri --version >/dev/null 2>&1 && return
    rustup component add miri rust-src --toolchain nightly && return
    skip "miri" "the nightly toolchain has no Miri, and \`rustup component add miri\` did not bring it"
    return 1
}

# rdma-core, the kernel's RDMA and Soft-RoCE, between two queues of datagrams, in an emulated machine.
virtual_machine() {
    if [[ " ${failed[*]} " == *" release build "* ]]; then
        echo "not run: there is no release build to test"
        return 1
    fi
    if [[ $(uname -m) != x86_64 ]] || ! command -v apt-get >/dev/null; then
        echo "skipped: virtual machine: it is made of Debian's packages for amd64"
        return
    fi
    update_packages
    tests/vm/run-in-vm.sh --net two --files target/release/doorbell --files tests/vm/guest.sh -- guest.sh
}

# A virtual environment in .venv with what tests/interop/requirements.txt pins.
provide_python() {
    provide python3 python3
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        # Debian splits ensurepip off.
        python3 -c 'import ensurepip, venv' 2>/dev/null || install_package python3-venv
        if ! python3 -m venv --clear .venv; then
            skip "golden vectors, interop with spead2" "python3 -m venv does not work here"
            return 1
        fi
    fi
    if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --requirement tests/interop/requirements.txt; then
        skip "golden vectors, interop with spead2" "pip could not install tests/interop/requirements.txt"
        return 1
    fi
}

# provide COMMAND PACKAGE: installs the package if the command is missing. Whoever needs the
# command says so if it still is.
provide() {
    command -v "$1" >/dev/null || install_package "$2"
}

install_package() {
    command -v apt-get >/dev/null || return 0
    [[ $EUID -eq 0 ]] || sudo -n true 2>/dev/null || return 0
    update_packages
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq --yes --no-install-recommends "$1" >/dev/null || true
}

# Which packages there are, once a run and where it may.
update_packages() {
    [[ ! -e $scratch/updated ]] || return 0
    touch "$scratch/updated"
    as_root apt-get update -qq || true
}

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo -n "$@"; fi
}

main
