#!/usr/bin/env bash
# The benchmark of benchmarks/README.md; its report goes to stdout. Arguments: records, rounds.
set -euo pipefail
"$(dirname "$0")/setup.sh" build
. "$(dirname "$0")/env.sh"
cargo build --release --locked -p skyfill -p bench
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null)" ] || commit="$commit and changes"
cat <<REPORT
# $(date -u +%F), commit $commit

Command: \`make bench\` (\`scripts/bench.sh $*\`). Machine: $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo),$(awk -F: '/model name/ {print $2; exit}' /proc/cpuinfo).
Server: $( (command -v postgres >/dev/null && postgres --version) || "$(ls -d /usr/lib/postgresql/*/bin | tail -1)/postgres" --version), settings of the private database.

## A stream of mixed records, against a bare binary COPY of the same rows into the same indexed tables

REPORT
./target/release/bench target/release/skyfill "$@"
cat <<'REPORT'

## `skyfill consumer --db-test all --rows 200000 --batch-size 10000`

```
REPORT
folder=$(mktemp -d) && chmod 755 "$folder"
./target/release/skyfill migrate --data-dir "$folder" 2>/dev/null
./target/release/skyfill consumer --db-test all --rows 200000 --batch-size 10000 --data-dir "$folder" 2>/dev/null
echo '```'
./target/release/skyfill db stop --data-dir "$folder" 2>/dev/null
rm -rf "$folder"
