#!/usr/bin/env bash
# Runs every fuzz target, one after the other, for the given number of seconds (600 by default).
# Needs cargo-fuzz and a nightly toolchain.
set -euo pipefail
. "$(dirname "$0")/env.sh"
seconds=${1:-600}
cargo run -q -p fuzz-harness --example write-seeds fuzz
cd fuzz
for target in car car_rows cbor record mst did_cache line frames lists events document export; do
  echo "== $target, $seconds s" >&2
  cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048
done
