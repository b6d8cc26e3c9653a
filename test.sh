#!/usr/bin/env bash
# Sets up what the tests need and runs every check and every test, from a clone with only Rust and Python 3.
#
#     ./test.sh           what a submission must pass
#     ./test.sh --long    and then the tests that take half an hour: 1,000 random stories of up to 30 hospitals, every fault
#                         of a ledger's disk, 500 deaths of a coordinator, 4 GB from each of three workers (30 GB of disk)
#
# Everything it makes lies in .setup/ and target/. It stops at the first step that fails and says which.
# Where a folder ../shared (or the one LEBEN_SHARED names) holds more real data, tests on it run too.
# The feature `torch` does not exist yet, so no libtorch is set up here; it comes with the deep-learning issue.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec </dev/null

# The newest cargo-deny that deny.toml was written for. Built without optimisation: 40 seconds on 2 cores instead of 150.
readonly DENY_VERSION=0.20.2
readonly SETUP="$PWD/.setup"
readonly LOG="$SETUP/tests.log"
started=$SECONDS
step_name="set-up"

trap 'code=$?; [ "$code" -eq 0 ] || printf "\nFAILED: %s (exit code %s, after %s s)\n" "$step_name" "$code" "$((SECONDS - started))" >&2' EXIT

step() {
    step_name="$1"
    shift
    printf '\n== %s   [%s s]\n   $ %s\n' "$step_name" "$((SECONDS - started))" "$*"
    "$@"
}

need() {
    command -v "$1" >/dev/null || { echo "test.sh needs $1: $2" >&2; exit 1; }
}

set_up_python() {
    [ -x "$SETUP/venv/bin/python" ] || python3 -m venv "$SETUP/venv" || {
        echo "Python could not make a virtual environment; on Debian: apt-get install python3-venv" >&2
        return 1
    }
}

set_up_deny() {
    if command -v cargo-deny >/dev/null && cargo-deny --version | grep -q " ${DENY_VERSION%.*}\."; then return; fi
    [ -x "$SETUP/tools/bin/cargo-deny" ] || cargo install cargo-deny --quiet --locked --version "$DENY_VERSION" --no-default-features \
        --debug --config 'profile.dev.debug=0' --root "$SETUP/tools" --target-dir "$SETUP/tools/target"
    rm -rf "$SETUP/tools/target"
    PATH="$SETUP/tools/bin:$PATH"
}

# Breaks and watches the system calls of a process. Without it, or where a process may not be traced, those tests say so.
set_up_strace() {
    if command -v strace >/dev/null; then return; fi
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        { apt-get update && apt-get install --yes --no-install-recommends strace; } >"$SETUP/strace.log" 2>&1 || true
    fi
    command -v strace >/dev/null || echo "skipped: no strace here (on Debian: apt-get install strace); the tests that need it say so"
}

# The advisory database is a repository of its own, out of reach of many build machines. Outside CI a new advisory is
# shown and is no failure: it says something about the day, not about this copy of the code.
check_advisories() {
    if ! GIT_TERMINAL_PROMPT=0 timeout 120 cargo deny fetch db >"$SETUP/advisories.log" 2>&1; then
        echo "skipped: the advisory database cannot be reached from here"
    elif ! cargo deny --all-features --offline check advisories; then
        [ -z "${CI:-}" ]
    fi
}

run_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --locked --workspace --no-fail-fast 2>&1 | tee "$LOG"
    else
        echo "cargo-nextest is not installed; cargo test does the same, more slowly"
        cargo test --locked --workspace --tests --no-fail-fast 2>&1 | tee "$LOG"
    fi
}

run_long_tests() {
    cargo test --locked --release -p leben-simulation --no-fail-fast -- --ignored --nocapture 2>&1 | tee -a "$LOG"
    cargo test --locked -p leben-contracts --test ledger --no-fail-fast -- --ignored --nocapture 2>&1 | tee -a "$LOG"
    cargo test --locked -p leben --test system --no-fail-fast -- --ignored --nocapture faults 2>&1 | tee -a "$LOG"
    cargo test --locked --release -p leben --test system --no-fail-fast -- --ignored --nocapture streaming 2>&1 | tee -a "$LOG"
}

run_doc_tests() {
    cargo test --locked --workspace --doc --no-fail-fast 2>&1 | tee -a "$LOG"
}

# Adds up the closing lines of the runners: `test result: ok. 3 passed; 0 failed; 1 ignored; ..` and
# `Summary [..] 40 tests run: 40 passed (1 slow), 2 skipped`.
count_tests() {
    sed 's/\x1b\[[0-9;]*m//g' "$LOG" | awk '
        /^ *Summary \[/ || /^test result:/ {
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) passed += $(i - 1)
                if ($i ~ /^failed/) failed += $(i - 1)
                if ($i ~ /^(ignored|skipped)/) skipped += $(i - 1)
            }
        }
        END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped; exit passed == 0 || failed > 0 }'
}

need cargo "install Rust, https://rustup.rs"
need python3 "install Python 3.8 or newer"
mkdir -p "$SETUP"

if [ -z "${LEBEN_SHARED:-}" ] && [ -d ../shared/data ]; then LEBEN_SHARED="$(cd ../shared && pwd)"; fi
if [ -n "${LEBEN_SHARED:-}" ]; then
    export LEBEN_SHARED
    echo "more real data: $LEBEN_SHARED (LEBEN_SHARED); the tests on it run"
else
    echo "no folder ../shared and no LEBEN_SHARED: the tests on data that is not in a package registry say so and pass without it"
fi

step "python environment" set_up_python
export LEBEN_HEART_DATA="$SETUP/heart-data"
step "UCI heart data of four hospitals" "$SETUP/venv/bin/python" deploy/fetch_heart.py "$LEBEN_HEART_DATA" \
    ${LEBEN_SHARED:+--compare "$LEBEN_SHARED/data/fed_heart_disease"}
step "strace" set_up_strace
step "cargo-deny" set_up_deny
step "crates" cargo fetch --locked

step "format" cargo fmt --all --check
step "licences, bans, sources" cargo deny --all-features --offline check --hide-inclusion-graph bans licenses sources
step "advisories" check_advisories
step "lints" cargo clippy --locked --workspace --all-targets -- -D warnings
step "documentation" env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --workspace --no-deps
step "tests" run_tests
step "documentation's examples" run_doc_tests

if [ "${1:-}" = --long ]; then step "long tests" run_long_tests; fi

step_name="count"
printf '\nall steps passed in %s s\n' "$((SECONDS - started))"
count_tests
