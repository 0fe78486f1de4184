#!/usr/bin/env bash
# Installs what is missing to build and test skyfill: a C linker, a Rust toolchain, PostgreSQL's
# server programs, libpq. Works on Debian and Ubuntu, as root or with sudo; otherwise it prints what
# to install and stops. It changes nothing that is installed, and creates no PostgreSQL cluster.
# Usage: scripts/setup.sh [build|test|conformance|package]
# `test` also needs libpq's headers, PgBouncer, nats-server, a headless Chromium, npm for axe-core,
# and Python for moto's server, an object store;
# `conformance` npm and psql, `package` musl.
set -euo pipefail
purpose=${1:-build}
missing=()

have() { command -v "$1" >/dev/null 2>&1; }
# A cargo that is too old for the workspace, such as Debian 12's, counts as missing.
have_cargo() {
  local cargo=cargo wanted found
  [ -x "$HOME/.cargo/bin/cargo" ] && cargo=$HOME/.cargo/bin/cargo
  have "$cargo" || return 1
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
  found=$("$cargo" --version | cut -d' ' -f2)
  [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -1)" = "$wanted" ]
}
have_postgres() {
  have initdb && have postgres && return
  local bin
  for bin in /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin; do
    [ -x "$bin/initdb" ] && return
  done
  [ -n "${PG_CONFIG:-}" ] && [ -x "$("$PG_CONFIG" --bindir)/initdb" ]
}
have_pgbouncer() { have pgbouncer || [ -x /usr/sbin/pgbouncer ]; }
have_nats() { have nats-server || [ -x /usr/sbin/nats-server ]; }
have_venv() { have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }
have_libpq() { have pg_config && [ -f "$(pg_config --includedir)/libpq-fe.h" ]; }

have cc || missing+=(gcc libc6-dev)
have make || missing+=(make)
have curl || missing+=(curl)
[ -e /etc/ssl/certs/ca-certificates.crt ] || [ "$(uname)" = Darwin ] || missing+=(ca-certificates)
have_postgres || missing+=(postgresql)
have_browser() { have chromium-headless-shell || have chromium || have chromium-browser || have google-chrome; }
if [ "$purpose" = test ]; then
  have_libpq || missing+=(libpq-dev)
  have_pgbouncer || missing+=(pgbouncer)
  have_nats || missing+=(nats-server)
  have npm || missing+=(npm)
  have_venv || missing+=(python3-venv)
  have_browser || { missing+=(chromium-headless-shell); fc-list 2>/dev/null | grep -q . || missing+=(fonts-dejavu-core); }
fi
if [ "$purpose" = package ]; then have musl-gcc || missing+=(musl-tools); fi
if [ "$purpose" = conformance ]; then have npm || missing+=(npm); have psql || missing+=(postgresql-client); fi

if [ "$(uname)" = Darwin ]; then # written for macOS, but not tested there
  if [ ${#missing[@]} -gt 0 ] || ! have_cargo; then
    echo "on macOS (untested), install what is missing with: xcode-select --install; brew install postgresql@17 libpq rustup" >&2
    exit 3
  fi
  exit 0
fi

if [ ${#missing[@]} -gt 0 ]; then
  if ! have apt-get; then
    echo "this script knows Debian and Ubuntu only; install what these packages hold: ${missing[*]}" >&2
    exit 3
  fi
  # Debian's package creates and starts a cluster on port 5432 unless this file says no. A setting
  # that exists is kept.
  conf=/etc/postgresql-common/createcluster.conf
  steps="set -e; export DEBIAN_FRONTEND=noninteractive; "
  if [[ " ${missing[*]} " == *" postgresql "* ]]; then
    steps+="mkdir -p /etc/postgresql-common; grep -qs '^ *create_main_cluster' $conf || echo 'create_main_cluster = false' >> $conf; "
  fi
  steps+="apt-get update -qq; apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold ${missing[*]} >/dev/null"
  # Nor does a test need the services that these packages start.
  for service in pgbouncer nats-server; do
    if [[ " ${missing[*]} " == *" $service "* ]]; then
      steps+="; service $service stop >/dev/null 2>&1 || true; update-rc.d $service disable >/dev/null 2>&1 || true"
      steps+="; systemctl disable $service >/dev/null 2>&1 || true"
    fi
  done
  if [ "$(id -u)" = 0 ]; then
    as_root=(bash -c)
  elif have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    as_root=(sudo bash -c)
  else
    printf 'not root, and no sudo without a password; run this, then try again:\n  sudo bash -c "%s"\n' "$steps" >&2
    exit 3
  fi
  echo "installing: ${missing[*]}" >&2
  "${as_root[@]}" "$steps"
fi

if ! have_cargo; then
  echo "installing a Rust toolchain for this user" >&2
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --component rustfmt,clippy >/dev/null ||
    { echo "the Rust toolchain could not be installed; get one from https://rustup.rs, then try again" >&2; exit 3; }
fi

# What looks for faults of accessibility in pages. Not committed: it is another project's.
axe=4.14.1
browser=$(dirname "$0")/../target/browser
if [ "$purpose" = test ] && ! grep -qs "\"version\": \"$axe\"" "$browser/node_modules/axe-core/package.json"; then
  mkdir -p "$browser"
  npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts --prefix "$browser" "axe-core@$axe"
fi

# The object store of the tests. What its package names first is all of AWS; S3 needs little of it.
moto=5.2.5
store=$(dirname "$0")/../target/tools/moto
if [ "$purpose" = test ] && ! [ -e "$store/lib/"python*"/site-packages/moto-$moto.dist-info" ]; then
  rm -rf "$store"
  python3 -m venv "$store"
  "$store/bin/pip" install --quiet --disable-pip-version-check "moto[s3]==$moto" flask flask-cors >&2
fi
