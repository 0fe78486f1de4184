#!/usr/bin/env bash
# The main job, from nothing to a database that an AppView can serve from: builds skyfill, starts a
# private PostgreSQL, and runs `skyfill run`. It loads real accounts if the live network responds
# within three seconds, otherwise generated repos on loopback.
set -euo pipefail
"$(dirname "$0")/setup.sh" build
. "$(dirname "$0")/env.sh"
cargo build --release --locked -p skyfill
skyfill=$ROOT/target/release/skyfill
unset BSKY_DB_POSTGRES_URL BSKY_DB_POSTGRES_SCHEMA
mkdir -p quickstart && cd quickstart
practice=
cleanup() { [ -z "$practice" ] || kill "$practice" 2>/dev/null || true; }
trap cleanup EXIT

plc=${BSKY_DID_PLC_URL:-https://plc.directory}
rm -f dids.jsonl certificate.json simnet.json
for did in did:plc:z72i7hdynmk6r22z27h6tvur did:plc:ewvi7nxzyoun6zhxrhs64oiz did:plc:44ybard66vv44zksje25o7dz did:plc:oky5czdrnfjpqslsw2a5iclo; do
  pds=$(curl -fsS -m 3 "$plc/$did" 2>/dev/null | grep -o '"serviceEndpoint":"https://[^"]*"' | head -1 | cut -d'"' -f4) || true
  [ -n "$pds" ] || break
  echo "[\"$did\",\"$pds\"]" >> dids.jsonl
done
options=() identity_options=()
if [ -s dids.jsonl ]; then
  echo "== real accounts from the live network: $(wc -l < dids.jsonl)"
else
  echo "== the live network did not respond within 3 seconds: generated repos, served on loopback"
  "$skyfill" simnet --dids dids.jsonl --repos 40 --records 20000 > simnet.json 2> simnet.log & practice=$!
  for _ in $(seq 100); do [ -s simnet.json ] && break; sleep 0.1; done
  [ -s simnet.json ] || { cat simnet.log >&2; exit 3; }
  options=(--allow-private-hosts --host-rate 1000)
  url() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" simnet.json; }
  identity_options=(--plc-url "$(url plc)" --well-known-server "$(url wellKnown)" --did-web-server "$(url wellKnown)" --dns-server "$(url dns)"
    --timeout 1 --plc-rate 1000)
fi

echo "== run"
status=0
"$skyfill" run dids.jsonl --certificate certificate.json ${options[@]+"${options[@]}"} ${identity_options[@]+"${identity_options[@]}"} || status=$?

echo "== tables"
psql=$("$skyfill" migrate 2>&1 | sed -n 's/^look at it with: //p')
eval "$psql" -P pager=off <<'SQL'
SELECT collection, count(*) AS records FROM (SELECT split_part(uri, '/', 4) AS collection FROM record) r GROUP BY 1 ORDER BY 2 DESC;
SELECT coalesce(actor.handle, a.creator) AS author, left(regexp_replace(a.text, '\s+', ' ', 'g'), 50) AS "a post", n."likeCount" AS likes,
  n."replyCount" AS replies, n."repostCount" AS reposts
FROM post a LEFT JOIN actor ON actor.did = a.creator LEFT JOIN post_agg n ON n.uri = a.uri
ORDER BY n."likeCount" DESC NULLS LAST, a.uri LIMIT 5;
SQL
echo "== done: the proof is in $ROOT/quickstart/certificate.json. Look around with:"
echo "$psql"
echo "PostgreSQL keeps running in $ROOT/quickstart/skyfill-data; stop it with: $skyfill db stop --data-dir $ROOT/quickstart/skyfill-data"
echo "For more (skyfill status, skyfill report): cd $ROOT/quickstart && export PATH=$ROOT/target/release:\$PATH"
exit "$status"
