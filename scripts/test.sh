#!/usr/bin/env bash
# Every test, with both database drivers. Stops the tests' own PostgreSQL afterwards.
set -euo pipefail
"$(dirname "$0")/setup.sh" test
. "$(dirname "$0")/env.sh"
# Most tests wait for servers and hosts most of the time.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(getconf _NPROCESSORS_ONLN) * 3))}
if [ "${SKYFILL_TESTS_WITHOUT_SHARED:-0}" != 0 ]; then
  echo "tests that need ../shared are ignored (SKYFILL_TESTS_WITHOUT_SHARED=$SKYFILL_TESTS_WITHOUT_SHARED)" >&2
fi
# Half of the work of making a database is making its files: where there is memory to spare, they
# lie there.
spare_kib() { { df --output=avail /dev/shm | tail -1 && awk '/MemAvailable/ {printf "%d\n", $2 / 3}' /proc/meminfo; } 2>/dev/null | sort -n | head -1; }
if [ -z "${SKYFILL_TESTS_CLUSTERS:-}" ] && [ "$(spare_kib)" -gt $((1 << 20)) ] 2>/dev/null; then
  SKYFILL_TESTS_CLUSTERS=$(mktemp -d /dev/shm/skyfill-tests.XXXXXX)
  export SKYFILL_TESTS_CLUSTERS
  chmod 755 "$SKYFILL_TESTS_CLUSTERS"
  trap 'rm -rf "$SKYFILL_TESTS_CLUSTERS"' EXIT
fi
status=0
if [ $# -gt 0 ]; then
  cargo test --workspace --all-features --locked "$@" || status=$?
else
  cargo test --workspace --all-features --locked --lib --bins --tests --no-fail-fast || status=$?
  # Rustdoc reads a whole crate to find out that it has no examples.
  for crate in $(grep -lE '^ *//[/!] ```|include_str!\("../README.md"\)' -r crates/*/src | cut -d/ -f2 | sort -u); do
    cargo test -p "$crate" --all-features --locked --doc || status=$?
  done
fi
./target/debug/skyfill db stop --data-dir "${SKYFILL_TESTS_CLUSTERS:-target/tmp}/postgres" >/dev/null || true
exit "$status"
