#!/usr/bin/env bash
# Kills skyfill, a PostgreSQL backend or the postmaster with -9 at random moments. After each kill
# the next start must end with the tables of an undisturbed run, and verify must pass. Prints each
# kill. The same while it follows a stream. Then takes three ways to the same tables on ten seeds.
set -euo pipefail
"$(dirname "$0")/setup.sh" test
. "$(dirname "$0")/env.sh"
export SKYFILL_CHAOS_KILLS=${SKYFILL_CHAOS_KILLS:-200} SKYFILL_CHAOS_SEED=${SKYFILL_CHAOS_SEED:-1}
cargo test --locked -p skyfill --test suite -- --nocapture chaos:: follow_chaos:: follow_network::kills changes::three_ways
