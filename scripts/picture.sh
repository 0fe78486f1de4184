#!/usr/bin/env bash
# Draws the pictures of the README in docs/pictures: loads a practice network in tmux, and captures
# the live view when more than half of the repos are loaded (live-view.svg) and the report of the
# whole run (report.png). SKYFILL names the binary; target/release/skyfill by default.
set -euo pipefail
. "$(dirname "$0")/env.sh"
skyfill=$(realpath "${SKYFILL:-target/release/skyfill}")
for program in tmux python3 chromium-headless-shell "$skyfill"; do
  command -v "$program" >/dev/null || { echo "$program is missing" >&2; exit 3; }
done
# The report names the database by its folder.
folder=/tmp/backfill
mkdir -m 755 "$folder" || { echo "remove $folder, which an earlier picture left" >&2; exit 3; }
terminal=(tmux -L "skyfill-picture-$$")
network=
cleanup() {
  "${terminal[@]}" kill-server 2>/dev/null || true
  [ -z "$network" ] || kill "$network" 2>/dev/null || true
  # The run that was stopped ends within seconds.
  for _ in $(seq 100); do
    "$skyfill" db stop --data-dir "$folder/skyfill-data" >/dev/null 2>&1 && break
    sleep 0.1
  done
  rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"
unset BSKY_DB_POSTGRES_URL
"$skyfill" simnet --hosts 40 --repos 6000 --records 300000 --faults limits-429,server-error,reset,wrong-length \
  --limit 400/10 >urls.json 2>network.log & network=$!
until grep -q 'skyfill run' network.log; do kill -0 "$network"; sleep 0.1; done
# Without the short time limits that the line has for faults: a busy machine exceeds them.
line=$(sed -n 's/^ *\(skyfill run .*\) --timeout .*/\1/p' network.log)
# Repos are generated when they are first asked for, which in a debug build takes longer than a host
# has to answer.
python3 - <<'LIST'
import json, urllib.request

for host in json.load(open("urls.json"))["hosts"]:
    cursor = ""
    while cursor is not None:
        url = f"{host}/xrpc/com.atproto.sync.listRepos?limit=1000{cursor and '&cursor=' + cursor}"
        cursor = json.load(urllib.request.urlopen(url)).get("cursor")
LIST
"$skyfill" db start 2>/dev/null
"${terminal[@]}" new-session -d -x 92 -y 30 -s view "env PS1='$ ' bash --norc"
"${terminal[@]}" send-keys -t view "clear; $skyfill ${line#skyfill }" Enter
captured=
for _ in $(seq 1200); do
  screen=$("${terminal[@]}" capture-pane -p -t view)
  percent=$(grep -oE '[0-9]+ %' <<<"$screen" | head -1 | cut -d' ' -f1 || true)
  # With the slowest hosts, if they are seen in time.
  least=50
  grep -q '^slowest' <<<"$screen" || least=75
  if grep -q '▸ discovery and loading' <<<"$screen" && [ "${percent:-0}" -ge "$least" ] && [ "$percent" -le 95 ]; then
    # The block alone, without what was printed above it.
    captured=$("${terminal[@]}" capture-pane -e -p -t view | sed -n '/skyfill run.*1 of 6/,$p')
    break
  fi
  sleep 0.1
done
[ -n "$captured" ] || { echo "no picture: the live view was not seen half way" >&2; "${terminal[@]}" capture-pane -p -t view >&2; exit 1; }
mkdir -p "$ROOT/docs/pictures"
"$ROOT/scripts/picture.py" "skyfill run" <<<"$captured" >"$ROOT/docs/pictures/live-view.svg"
echo "$ROOT/docs/pictures/live-view.svg" >&2

# The last line of the run names the next step.
until "${terminal[@]}" capture-pane -p -t view | grep -q '^next: '; do sleep 1; done
"$skyfill" report -o "$folder/report.html" 2>/dev/null
chromium-headless-shell --no-sandbox --disable-gpu --hide-scrollbars --window-size=1080,1092 \
  --user-data-dir="$folder/browser" --screenshot="$ROOT/docs/pictures/report.png" \
  "file://$folder/report.html" 2>/dev/null
echo "$ROOT/docs/pictures/report.png" >&2
