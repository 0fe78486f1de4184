#!/usr/bin/env bash
# Follows the official dev network with skyfill, and compares what it stores with the official
# indexer. Installs both from npm (with the Node that they need), starts a PLC directory, two PDSes
# and a relay on this machine, and lets accounts write, change, move and go while skyfill follows
# and the official AppView serves. Exits with 1 if anything differs. See conformance/README.md.
# SKYFILL_BINARY names a skyfill that is built already.
# Usage: scripts/devnet.sh [--seed N] [--deeds N]
#        scripts/devnet.sh --install       installs, and compares nothing
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
seed=$(date +%j) deeds=2000 install=false
while [ $# -gt 0 ]; do
  case $1 in
    --seed) seed=$2; shift 2;;
    --deeds) deeds=$2; shift 2;;
    --install) install=true; shift;;
    *) echo "usage: $0 [--install] [--seed N] [--deeds N]" >&2; exit 2;;
  esac
done
"$here/scripts/setup.sh" conformance
. "$here/scripts/env.sh"
cd "$here"
# Installed once, again when package.json changes. The PDS's SQLite is compiled if npm has no built
# one for this machine, with the headers of the Node that runs it.
devnet=$here/target/devnet
mkdir -p "$devnet/node"
node=$devnet/node/node_modules/.bin/node
if ! cmp -s conformance/devnet/package.json "$devnet/installed"; then
  echo "installing the official dev network; this takes some minutes" >&2
  (cd "$devnet/node" && npm install --silent --no-audit --no-fund --no-package-lock --prefix . node@22)
  headers=$("$node" -p 'path.dirname(path.dirname(fs.realpathSync(process.execPath)))')
  if [ ! -d "$headers/include" ]; then
    headers=$(dirname "$(find "$devnet/node/node_modules" -type d -path '*/node-*/include' -print -quit)")
  fi
  cp conformance/devnet/package.json "$devnet/package.json"
  (cd "$devnet" && PATH="$devnet/node/node_modules/.bin:$PATH" npm_config_nodedir=$headers \
    npm install --silent --no-audit --no-fund --no-package-lock) &&
    (cd "$devnet" && "$node" -e "new (require('better-sqlite3'))(':memory:')") ||
    { echo "the dev network could not be installed; to compile SQLite, it needs g++ and python3" >&2; exit 3; }
  cp conformance/devnet/package.json "$devnet/installed"
fi
if $install; then exit 0; fi

skyfill=${SKYFILL_BINARY:-}
if [ -z "$skyfill" ]; then
  # As the tests build it, so that CI builds it once; all features need libpq.
  features=()
  if command -v pg_config >/dev/null; then features=(--all-features); fi
  cargo build --locked --workspace --lib --bins --tests "${features[@]}"
  skyfill=$here/target/debug/skyfill
fi

cp conformance/devnet/*.mjs conformance/index.mjs "$devnet/"
cp packaging/appview/appview.mjs "$devnet/serve.mjs"
export NODE_NO_WARNINGS=1 LOG_ENABLED=false

data=$devnet/postgres work=$devnet/work
rm -rf "$work" && mkdir -p "$work/tmp"
# What the PDSes leave there goes with the rest.
export TMPDIR=$work/tmp
check=
cleanup() {
  if [ -n "$check" ]; then kill "$check" 2>/dev/null && wait "$check" || true; fi
  "$skyfill" db stop --data-dir "$data" >/dev/null 2>&1 || true
  rm -rf "$work/tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
"$skyfill" db start --data-dir "$data" >/dev/null
url=$("$skyfill" db url --data-dir "$data")
(cd "$devnet" && exec "$node" check.mjs "$skyfill" "$url" "$work" "$seed" "$deeds") & check=$!
status=0
wait "$check" || status=$?
check=
[ $status = 0 ] && echo "skyfill and the official indexer agree" >&2
exit $status
