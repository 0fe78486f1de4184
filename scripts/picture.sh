#!/usr/bin/env bash
# Draws docs/pictures/live-view.svg: loads a practice network in tmux, and captures the live view
# when half of the repos are loaded. SKYFILL names the binary; target/release/skyfill by default.
set -euo pipefail
. "$(dirname "$0")/env.sh"
skyfill=$(realpath "${SKYFILL:-target/release/skyfill}")
for program in tmux python3 "$skyfill"; do
  command -v "$program" >/dev/null || { echo "$program is missing" >&2; exit 3; }
done
folder=$(mktemp -d)
chmod 755 "$folder"
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
"$skyfill" simnet --hosts 40 --repos 6000 --records 600000 --faults limits-429,dead-host,html --limit 400/10 \
  >urls.json 2>network.log & network=$!
until grep -q 'skyfill run' network.log; do kill -0 "$network"; sleep 0.1; done
line=$(sed -n 's/^ *\(skyfill run .*\)/\1/p' network.log)
"$skyfill" db start 2>/dev/null
"${terminal[@]}" new-session -d -x 92 -y 30 -s view "env PS1='$ ' bash --norc"
"${terminal[@]}" send-keys -t view "clear; $skyfill ${line#skyfill }" Enter
captured=
for _ in $(seq 1200); do
  screen=$("${terminal[@]}" capture-pane -p -t view)
  percent=$(grep -oE '[0-9]+ %' <<<"$screen" | head -1 | cut -d' ' -f1 || true)
  if grep -q '▸ loading' <<<"$screen" && [ "${percent:-0}" -ge 50 ] && [ "$percent" -le 75 ]; then
    # The block alone, without what was printed above it.
    captured=$("${terminal[@]}" capture-pane -e -p -t view | sed -n '/skyfill run.*2 of 7/,$p')
    break
  fi
  sleep 0.1
done
[ -n "$captured" ] || { echo "no picture: the live view was not seen half way" >&2; "${terminal[@]}" capture-pane -p -t view >&2; exit 1; }
mkdir -p "$ROOT/docs/pictures"
"$ROOT/scripts/picture.py" "skyfill run" <<<"$captured" >"$ROOT/docs/pictures/live-view.svg"
echo "$ROOT/docs/pictures/live-view.svg" >&2
