#!/usr/bin/env bash
# Every test, with both database drivers. Stops the tests' own PostgreSQL afterwards.
set -euo pipefail
"$(dirname "$0")/setup.sh" test
. "$(dirname "$0")/env.sh"
# Most tests wait for servers and hosts most of the time.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(getconf _NPROCESSORS_ONLN) * 2))}
# Some tests compare with real repos, which are not in the project. Where they are absent, those are
# ignored and counted as such; that holds for what is built after this, too (.ci/run says it first).
if [ ! -e ../shared ] && [ -z "${SKYFILL_TESTS_WITHOUT_SHARED:-}" ]; then
  export SKYFILL_TESTS_WITHOUT_SHARED=1
fi
if [ "${SKYFILL_TESTS_WITHOUT_SHARED:-0}" != 0 ]; then
  echo "tests that need ../shared are ignored (SKYFILL_TESTS_WITHOUT_SHARED=$SKYFILL_TESTS_WITHOUT_SHARED)" >&2
fi
status=0
cargo test --workspace --all-features --locked "$@" || status=$?
./target/debug/skyfill db stop --data-dir target/tmp/postgres >/dev/null || true
exit "$status"
