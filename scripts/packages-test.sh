#!/usr/bin/env bash
# Tries what scripts/package.sh makes, as root on Debian or Ubuntu: installs the Debian package in a
# new Debian root (debootstrap), boots it with systemd-nspawn, starts skyfill.service on a practice
# network, stops and continues it, and removes the package; then runs the static binary in a root
# that holds nothing else but certificates. Where containers cannot be booted, it runs the unit's
# commands by hand in a chroot, as the unit's user, and says so. Takes minutes beyond building.
# SKYFILL_TEST_MIRROR names a Debian mirror, else it is this machine's. SKYFILL_TEST_BY_HAND=1 does
# not try to boot.
set -euo pipefail
. "$(dirname "$0")/env.sh"
[ "$(id -u)" = 0 ] || { echo "run it as root" >&2; exit 3; }
for program in debootstrap dpkg-deb; do
  command -v "$program" >/dev/null || { echo "$program is missing: apt-get install debootstrap dpkg" >&2; exit 3; }
done
package=$(scripts/package.sh deb)
suite=bookworm
mirror=${SKYFILL_TEST_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' "Codename: $suite" | head -n 1)}
root=$ROOT/target/packages/root
say() { echo "== $*" >&2; }
fail() { echo "FAILED: $*" >&2; exit 1; }
mounted=() background=()
cleanup() {
  for process in "${background[@]}"; do kill "$process" 2>/dev/null || true; done
  [ ! -x "$root/usr/bin/pg_ctlcluster" ] || [ ${#mounted[@]} = 0 ] ||
    chroot "$root" pg_ctlcluster 15 main stop -m immediate >/dev/null 2>&1 || true
  for ((i = ${#mounted[@]} - 1; i >= 0; i--)); do umount "${mounted[i]}" 2>/dev/null || umount -l "${mounted[i]}"; done
}
trap cleanup EXIT

# Kept packed: a root is made anew for each try, a download is not.
packed=$ROOT/target/packages/$suite.tar
if [ ! -e "$packed" ]; then
  say "a new Debian root"
  debootstrap --variant=minbase --include=ca-certificates,systemd,systemd-sysv,dbus,postgresql,man-db,procps \
    "$suite" "$root.new" "$mirror" >"$root.log" || { tail "$root.log" >&2; exit 3; }
  tar -C "$root.new" -cf "$packed.partial" .
  mv "$packed.partial" "$packed"
  rm -rf "$root.new"
fi
rm -rf "$root" "$root.boot.log" && mkdir "$root" && tar -C "$root" -xf "$packed"

say "install the package"
cp "$package" "$root/skyfill.deb"
chroot "$root" dpkg -i /skyfill.deb >&2
chroot "$root" getent passwd skyfill >&2
[ "$(stat -c '%a %U' "$root/etc/skyfill/skyfill.env")" = "640 root" ] || fail "skyfill.env is open to others"
chroot "$root" skyfill --version >&2
warnings=$(chroot "$root" man --warnings -P cat skyfill-run 2>&1 >"$root/run.txt")
[ -z "$warnings" ] || fail "warnings of man: $warnings"
grep -q -- --retry-failed "$root/run.txt" || fail "man skyfill-run is not about run"
chroot "$root" systemd-analyze verify skyfill.service >&2 || fail "the unit is not sound"
chroot "$root" systemd-analyze security --offline=true --no-pager skyfill.service 2>/dev/null | tail -1 >&2 || true

# What happens inside, booted or not: `start` runs the service to its end, `stop` stops it.
cat >"$root/try.sh" <<'INSIDE'
set -euo pipefail
say() { echo "== $*"; }
how=$1
settings() { printf '%s\n' "$@" > /etc/skyfill/skyfill.env; }
as_skyfill() { setpriv --reuid skyfill --regid skyfill --init-groups env HOME=/var/lib/skyfill "$@"; }
pid=
if [ "$how" = boot ]; then
  begin() { systemctl start skyfill; }
  finish() {
    until [[ "$(systemctl show -P ActiveState skyfill)" =~ ^(inactive|failed)$ ]]; do
      [ "$(systemctl show -P NRestarts skyfill)" = 0 ] || show
      sleep 0.2
    done
  }
  stop() { systemctl stop skyfill; }
  # systemd forgets a unit that ended well, and with it the exit code.
  mkdir -p /etc/systemd/system/skyfill.service.d
  printf '[Service]\nExecStopPost=/bin/sh -c "echo $$EXIT_STATUS > /var/lib/skyfill/exit"\n' \
    > /etc/systemd/system/skyfill.service.d/exit.conf
  systemctl daemon-reload
  code() { cat /var/lib/skyfill/exit; }
  log() { journalctl -o cat -u skyfill; }
else
  install -d -o skyfill -g skyfill -m 750 /var/lib/skyfill
  unit=/usr/lib/systemd/system/skyfill.service
  value() { sed -n "s/^$1=//p" $unit; }
  begin() {
    # shellcheck disable=SC2046,SC2086
    (cd /var/lib/skyfill; export "$(value Environment)"
      # As systemd reads it: a value may have spaces.
      while IFS= read -r line; do export "$line"; done </etc/skyfill/skyfill.env
      command=$(value ExecStart); exec setpriv --reuid skyfill --regid skyfill --init-groups ${command/\$SKYFILL_RUN_OPTIONS/$SKYFILL_RUN_OPTIONS}) >>/log 2>&1 & pid=$!
  }
  finish() { status=0; wait $pid || status=$?
    (cd /var/lib/skyfill; as_skyfill "$(value Environment)" $(value ExecStopPost) >>/log 2>&1); }
  stop() { kill $pid; finish; }
  code() { echo $status; }
  log() { cat /log; }
fi
show() { log | tail -30; exit 1; }
url='postgresql:///bsky?host=/var/run/postgresql'
if [ "$how" = boot ]; then systemctl start postgresql; else pg_ctlcluster 15 main start; fi
setpriv --reuid postgres --regid postgres --init-groups createuser skyfill
setpriv --reuid postgres --regid postgres --init-groups createdb -O skyfill -T template0 -E UTF8 --locale C bsky

skyfill simnet --hosts 4 --repos 400 --records 20000 >/urls 2>/network & network=$!
trap 'kill $network 2>/dev/null || true' EXIT
until grep -qs 'skyfill run' /network; do kill -0 $network; sleep 0.1; done
options=$(sed -n 's/^ *skyfill run //p' /network)

as_skyfill BSKY_DB_POSTGRES_URL="$url" skyfill migrate

say "the service loads the practice network"
settings "BSKY_DB_POSTGRES_URL=$url" "SKYFILL_RUN_OPTIONS=$options --certificate /var/lib/skyfill/certificate.json"
begin; finish
[ "$(code)" = 0 ] || show
as_skyfill BSKY_DB_POSTGRES_URL="$url" skyfill status
grep -q '"verdict": *"complete"' /var/lib/skyfill/certificate.json
setpriv --reuid postgres --regid postgres --init-groups psql -At bsky -c 'SELECT count(*) FROM bsky.record'

say "the service is stopped in the middle, and continues without options"
as_skyfill BSKY_DB_POSTGRES_URL="$url" skyfill migrate --recreate-schema --yes
settings "BSKY_DB_POSTGRES_URL=$url" "SKYFILL_RUN_OPTIONS=${options/--host-rate 100/--host-rate 20}"
begin
loaded() { setpriv --reuid postgres --regid postgres --init-groups psql -At bsky -c "SELECT count(*) FROM skyfill.repo WHERE state = 'loaded'" 2>/dev/null || true; }
until [ "$(loaded)" -gt 0 ] 2>/dev/null; do
  [ "$how" != boot ] || [ "$(systemctl show -P ActiveState skyfill)" = active ] || show
  sleep 0.1
done
stop
[ "$(code)" = 4 ] || show
[ "$how" != boot ] || ! systemctl -q is-failed skyfill || show
say "stopped with $(loaded) repos"
settings "BSKY_DB_POSTGRES_URL=$url" "SKYFILL_RUN_OPTIONS=--host-rate 100"
begin; finish
[ "$(code)" = 0 ] || show
as_skyfill BSKY_DB_POSTGRES_URL="$url" skyfill status | head -3

say "the service keeps a private PostgreSQL, and stops it"
settings "SKYFILL_RUN_OPTIONS=$options"
begin; finish
[ "$(code)" = 0 ] || show
if ps -u skyfill -o stat=,args= | grep -v '^Z'; then echo "a process of skyfill is left"; exit 1; fi
ls -d /var/lib/skyfill/skyfill-data

say "the package is removed"
dpkg --purge skyfill
[ ! -e /usr/bin/skyfill ] && [ ! -e /etc/skyfill/skyfill.env ] && [ -d /var/lib/skyfill/skyfill-data ]
kill $network
say "all of it worked"
INSIDE

boots() {
  [ -z "${SKYFILL_TEST_BY_HAND:-}" ] && command -v systemd-nspawn >/dev/null || return 1
  cat >"$root/usr/lib/systemd/system/try.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /try.sh boot
StandardOutput=append:/try.log
StandardError=append:/try.log
ExecStopPost=/bin/sh -c 'echo $EXIT_STATUS > /try.status'
ExecStopPost=/usr/bin/systemctl --no-block exit
TimeoutStartSec=600
[Install]
WantedBy=default.target
UNIT
  ln -sf /usr/lib/systemd/system/try.service "$root/etc/systemd/system/try.service"
  mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
  ln -sf /usr/lib/systemd/system/try.service "$root/etc/systemd/system/multi-user.target.wants/try.service"
  timeout 600 systemd-nspawn -q --boot --register=no --keep-unit --private-network -D "$root" >"$root.boot.log" 2>&1 </dev/null || true
  [ -e "$root/try.log" ]
}
if boots; then
  cat "$root/try.log" >&2
  [ "$(cat "$root/try.status" 2>/dev/null)" = 0 ] || fail "in the booted root"
else
  say "containers cannot be booted here ($(tail -1 "$root.boot.log" 2>/dev/null || echo no systemd-nspawn)): by hand in a chroot"
  mount -t proc proc "$root/proc"; mounted+=("$root/proc")
  mount -t tmpfs tmpfs "$root/dev/shm" 2>/dev/null && mounted+=("$root/dev/shm")
  chroot "$root" /bin/bash /try.sh by-hand >&2 || fail "in the chroot"
fi

say "the static binary in a root that holds only the certificates beside it"
empty=$ROOT/target/packages/empty
rm -rf "$empty" "$empty.network" && mkdir "$empty"
cp "target/$(uname -m)-unknown-linux-musl/release/skyfill" "$empty/skyfill"
install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$empty/etc/ssl/certs/ca-certificates.crt"
chroot "$empty" /skyfill --version >&2
chroot "$empty" /skyfill simnet --hosts 3 --repos 100 --records 4000 >"$empty.urls" 2>"$empty.network" & background+=($!)
until grep -qs 'skyfill run' "$empty.network"; do kill -0 "${background[-1]}"; sleep 0.1; done
options=$(sed -n 's/^ *skyfill run //p' "$empty.network")
# There is no PostgreSQL in it: that of this machine, over TCP.
data=$ROOT/target/packages/data
"$empty/skyfill" db start --data-dir "$data" 2>/dev/null
socket=$("$empty/skyfill" db url --data-dir "$data")
mkdir "$empty/socket"
folder=$(sed -n 's/.*host=\([^&]*\).*/\1/p' <<<"$socket" | sed 's/%2F/\//g')
mount --bind "$folder" "$empty/socket"; mounted+=("$empty/socket")
url=$(sed "s#host=[^&]*#host=/socket#" <<<"$socket")
chroot "$empty" /skyfill migrate --database-url "$url" >&2 || fail "in the empty root"
# Not even /tmp is there.
# shellcheck disable=SC2086 # several options
chroot "$empty" /skyfill run --database-url "$url" --spool-dir / $options >&2 || fail "in the empty root"
chroot "$empty" /skyfill status --database-url "$url" | head -3 >&2
umount "$empty/socket"; unset 'mounted[-1]'
"$empty/skyfill" db stop --data-dir "$data" 2>/dev/null
rm -rf "$data" "$empty"
say "the packages work"
