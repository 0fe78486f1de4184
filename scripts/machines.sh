#!/usr/bin/env bash
# Runs the tests that need machines of their own: network namespaces and disks, which take root and
# iproute2. Eight workers on one ledger; a cluster of three NATS servers, of which one is killed and
# one cut off; a NATS server whose disk is full.
set -euo pipefail
"$(dirname "$0")/setup.sh" test
. "$(dirname "$0")/env.sh"
[ "$(id -u)" = 0 ] && command -v ip >/dev/null || {
  echo "network namespaces need root and the program ip: apt-get install iproute2" >&2
  exit 2
}
cargo test --locked -p skyfill --all-features --test suite -- --ignored machines full_disk
