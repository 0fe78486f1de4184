#!/usr/bin/env bash
# Loads repos of a practice network, exports them from the database and from the archive, writes the
# stream of their records and changes to files, and has DuckDB and polars, from PyPI, read all of
# it: counts and hashes have to be those of the manifests, the newest messages those of the tables.
# Usage: scripts/export-check.sh [RECORDS]
set -euo pipefail
"$(dirname "$0")/setup.sh" test >&2
. "$(dirname "$0")/env.sh"
records=${1:-100000}
cargo build --locked -p skyfill --all-features >&2
skyfill=$ROOT/target/debug/skyfill
if ! target/tools/python/bin/python -c 'import duckdb, polars' 2>/dev/null; then
  python3 -m venv target/tools/python
  target/tools/python/bin/pip install --quiet 'duckdb>=1.1' 'polars>=1.0' >&2
fi
python=$ROOT/target/tools/python/bin/python
folder=$(mktemp -d)
network=
nats=
finish() {
  for process in $network $nats; do kill "$process" 2>/dev/null || true; done
  (cd "$folder" && "$skyfill" db stop >/dev/null 2>&1) || true
  rm -rf "$folder"
}
trap finish EXIT
chmod 755 "$folder"
cd "$folder"
"$skyfill" simnet --repos $((records / 160)) --records "$records" --changes 50 --dids dids.jsonl >network.json 2>network.log &
network=$!
until grep -q 'skyfill run' network.log; do
  kill -0 "$network" 2>/dev/null || { cat network.log >&2; exit 1; }
  sleep 0.2
done
command=$(grep -m1 -o 'skyfill run .*' network.log)
"$skyfill" ${command#skyfill } --handles skip --no-verify --keep-cars cars >run.log 2>&1 || [ $? = 1 ] || { tail run.log >&2; exit 1; }
"$(PATH=$PATH:/usr/sbin command -v nats-server)" -a 127.0.0.1 -p 14230 -js -sd "$folder/nats" 2>nats.log &
nats=$!
until grep -q 'Server is ready' nats.log; do
  kill -0 "$nats" || { cat nats.log >&2; exit 1; }
  sleep 0.1
done
stream="--transport nats://127.0.0.1:14230"
"$skyfill" records $stream --until-published >&2
"$skyfill" tee teed $stream --until-read >&2
"$skyfill" export archive --from-cars cars >&2
# What has changed meanwhile.
"$skyfill" catch-up --handles skip --no-verify >catch-up.log 2>&1 || [ $? = 1 ] || { tail catch-up.log >&2; exit 1; }
"$skyfill" records $stream --until-published >&2
"$skyfill" tee teed $stream --until-read >&2
"$skyfill" export tables >&2
"$python" "$ROOT/scripts/export_check.py" tables teed
"$python" "$ROOT/scripts/export_check.py" archive
