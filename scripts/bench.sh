#!/usr/bin/env bash
# Runs the benchmarks, each against the least that the same work can cost. The report goes to
# stdout.
# Usage: scripts/bench.sh [--all]
# `--all` adds ten million records, large repos, faults and the line form: about two hours.
set -euo pipefail
"$(dirname "$0")/setup.sh" build >&2
. "$(dirname "$0")/env.sh"
# Some benchmarks end a run at a failpoint, when what they measure is done.
cargo build --release --locked -p skyfill -p bench --features skyfill/failpoints >&2
bench=target/release/bench skyfill=target/release/skyfill
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null)" ] || commit="$commit and changes"
section() { printf '\n## %s\n\n`bench %s`\n\n' "$1" "${*:2}"; }
cat <<REPORT
# $(date -u +%F), commit $commit

Command: \`make bench\` (\`scripts/bench.sh $*\`). Machine: $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo),$(awk -F: '/model name/ {print $2; exit}' /proc/cpuinfo).
Server: $( (command -v postgres >/dev/null && postgres --version) || "$(ls -d /usr/lib/postgresql/*/bin | tail -1)/postgres" --version), settings of the private database.
REPORT
section "(c) skyfill's own work, on one core" client
$bench client
section "(a), (b), (d): the whole way" load
$bench load $skyfill
section "The network on paper time" paper
$bench paper
[ "${1:-}" = --all ] || exit 0
"$(dirname "$0")/setup.sh" test >&2
section "After the first load" changes
$bench changes $skyfill
section "Ten times as much" scale
$bench scale $skyfill
section "What a record costs" costs
$bench costs $skyfill
section "Large repos" large
$bench large $skyfill
section "A practice network with every fault" network
$bench network $skyfill
section "The fullest host at its limit" limit
$bench limit $skyfill
section "One hostile host beside ten good ones" hostile-host
$bench hostile-host $skyfill 1500 1
section "Sockets and NATS" transport
$bench transport $skyfill
section "Export" export
$bench export $skyfill
section "Lines through the consumer" consumer
$bench consumer $skyfill
