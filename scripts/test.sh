#!/usr/bin/env bash
# Every test, with both database drivers. Stops the tests' own PostgreSQL afterwards.
set -euo pipefail
"$(dirname "$0")/setup.sh" test
. "$(dirname "$0")/env.sh"
# Most tests wait for servers and hosts most of the time.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(getconf _NPROCESSORS_ONLN) * 2))}
status=0
cargo test --workspace --all-features --locked "$@" || status=$?
./target/debug/skyfill db stop --data-dir target/tmp/postgres >/dev/null || true
exit "$status"
