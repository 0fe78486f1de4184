#!/usr/bin/env bash
# Compares skyfill with the official indexer. Installs that from npm (with the Node that it needs),
# compares mutated records and recorded networks, and exits with 1 if anything differs. With
# --record, writes the official result for the networks to conformance/recorded instead.
# With --official VERSION, another version of @atproto/bsky is the judge: its migrations make the
# database, what they changed is reported, and skyfill fills it as it is.
# Usage: scripts/conformance.sh [--record] [--official VERSION] [--seed N] [--count N]
#        scripts/conformance.sh --install       installs, and compares nothing
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
seed=$(date +%j) count=200000 record=() official= install=false
while [ $# -gt 0 ]; do
  case $1 in
    --record) record=(--record); shift;;
    --official) official=$2; shift 2;;
    --seed) seed=$2; shift 2;;
    --count) count=$2; shift 2;;
    --install) install=true; shift;;
    *) echo "usage: $0 [--install] [--record] [--official VERSION] [--seed N] [--count N]" >&2; exit 2;;
  esac
done
if [ -n "$official" ] && [ ${#record[@]} -gt 0 ]; then echo "what is recorded is the version in conformance/package.json" >&2; exit 2; fi
"$here/scripts/setup.sh" conformance
. "$here/scripts/env.sh"
cd "$here"
# Installed once, again when package.json changes. Nothing is compiled: its one native module comes
# built.
judge=$here/target/conformance${official:+-$official}
mkdir -p "$judge/node"
if [ -z "$official" ]; then
  cp conformance/package.json "$judge/wanted"
else
  # Beside it, the packages that it depends on itself.
  npm view "@atproto/bsky@$official" dependencies --json > "$judge/dependencies.json"
  [ -s "$judge/dependencies.json" ] || { echo "npm has no @atproto/bsky@$official; npm view @atproto/bsky versions lists them" >&2; exit 2; }
  range() { sed -n 's#.*"@atproto/'"$1"'": "\(.*\)".*#\1#p' "$judge/dependencies.json"; }
  sed -E -e 's#("@atproto/bsky": ").*"#\1'"$official"'"#' -e 's#("@atproto/lex": ").*"#\1'"$(range lex)"'"#' \
    -e 's#("@atproto/repo": ").*"#\1'"$(range repo)"'"#' -e 's#("@atproto/syntax": ").*"#\1'"$(range syntax)"'"#' \
    conformance/package.json > "$judge/wanted"
fi
if ! cmp -s "$judge/wanted" "$judge/installed"; then
  echo "installing the official indexer" >&2
  (cd "$judge/node" && npm install --silent --no-audit --no-fund --no-package-lock --prefix . node@22)
  cp "$judge/wanted" "$judge/package.json"
  (cd "$judge" && PATH="$judge/node/node_modules/.bin:$PATH" npm install --silent --no-audit --no-fund --no-package-lock)
  cp "$judge/wanted" "$judge/installed"
fi
if $install; then exit 0; fi

# As the tests build it, so that CI builds it once; all features need libpq.
features=()
if command -v pg_config >/dev/null; then features=(--all-features); fi
cargo build --locked --workspace --lib --bins --tests "${features[@]}"

cp conformance/*.mjs "$judge/"
node=$judge/node/node_modules/.bin/node
tool=$here/target/debug/conformance skyfill=$here/target/debug/skyfill
export NODE_NO_WARNINGS=1

status=0
echo "mutated records, seed $seed:" >&2
(cd "$judge" && "$tool" records --seed "$seed" --count "$count" "$node" judge.mjs) || status=1

data=$judge/postgres
"$skyfill" db start --data-dir "$data" >/dev/null
url=$("$skyfill" db url --data-dir "$data")
database() { sed -E 's#/[^/?]*(\?|$)#/'"$1"'\1#' <<<"$url"; }
fresh() {
  psql -qX "$url" -c "DROP DATABASE IF EXISTS $1 WITH (FORCE)" -c "CREATE DATABASE $1" 2>/dev/null || { echo "could not make database $1" >&2; return 1; }
}
serving= consumer=
# Paths of sockets are short, whatever the path of the project.
sockets=$(mktemp -d)
cleanup() {
  for process in $serving $consumer; do kill "$process" 2>/dev/null || true; done
  rm -rf "$sockets"
  "$skyfill" db stop --data-dir "$data" >/dev/null 2>&1 || true
}
trap cleanup EXIT
if [ -n "$official" ]; then
  echo "migrations of @atproto/bsky $official:" >&2
  fresh migrated
  (cd "$judge" && "$node" migrate.mjs "$(database migrated)")
  "$tool" drift "$(database migrated)" || status=1
fi
for recorded in conformance/recorded/*.json; do
  name=$(basename "$recorded" .json)
  now=$(sed -n 's/.*"now": "\(.*\)".*/\1/p' "$recorded")
  echo "$name:" >&2
  rm -rf "$judge/$name" && "$tool" network "$recorded" "$judge/$name"
  fresh official && fresh filled
  (cd "$judge" && "$node" index.mjs "$(database official)" "$judge/$name" "$now")
  # What another version makes of it is compared with skyfill alone.
  [ -n "$official" ] || "$tool" check "${record[@]}" "$recorded" "$(database official)" || status=1
  "$tool" serve "$recorded" "$judge/$name/dids.jsonl" > "$judge/$name/url" & serving=$!
  until [ -s "$judge/$name/url" ]; do kill -0 $serving; sleep 0.1; done
  pds=$(cat "$judge/$name/url")
  export BSKY_DB_POSTGRES_URL; BSKY_DB_POSTGRES_URL=$(database filled)
  socket=$sockets/$name
  if [ -n "$official" ]; then (cd "$judge" && "$node" migrate.mjs "$(database filled)"); fi
  "$skyfill" migrate 2>/dev/null
  "$skyfill" consumer "$socket" --rejects "$judge/$name/rejects" 2>"$judge/$name/consumer.log" & consumer=$!
  until grep -q listening "$judge/$name/consumer.log"; do kill -0 $consumer; sleep 0.1; done
  "$skyfill" producer "$judge/$name/dids.jsonl" "$socket" --allow-private-hosts --host-rate 10000 --now "$now" --failures "$judge/$name/failures" 2>"$judge/$name/producer.log" ||
    { cat "$judge/$name/producer.log" >&2; exit 3; }
  kill $consumer; wait $consumer || true; consumer= # 1: it refused lines, as it should
  # There is no DNS server at this address, so handles are resolved by HTTP.
  "$skyfill" identities --plc-url "$pds" --well-known-server "$pds" --dns-server 127.0.0.1:9 --timeout 1 --plc-rate 1000 --now "$now" 2>/dev/null || true
  "$skyfill" finalize 2>"$judge/$name/finalize.log" || { cat "$judge/$name/finalize.log" >&2; exit 3; }
  unset BSKY_DB_POSTGRES_URL
  if "$tool" compare "$(database official)" "$(database filled)"; then echo "  the same rows" >&2; else status=1; fi
  kill $serving; wait $serving 2>/dev/null || true; serving=
done
[ $status = 0 ] && echo "skyfill and the official indexer${official:+ $official} agree" >&2
exit $status
