#!/usr/bin/env bash
# Installs what is missing to build and test skyfill: a C linker, a Rust toolchain, PostgreSQL's server programs, libpq.
# On Debian and Ubuntu, as root or with sudo; elsewhere, or without sudo, it prints what to install and stops.
# Nothing that is there is touched, and no PostgreSQL cluster is made or started.
# Usage: scripts/setup.sh [build|test]   (test also wants libpq's headers)
set -euo pipefail
purpose=${1:-build}
missing=()

have() { command -v "$1" >/dev/null 2>&1; }
have_cargo() { have cargo || [ -x "$HOME/.cargo/bin/cargo" ]; }
have_postgres() {
  have initdb && have postgres && return
  for bin in /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin; do
    [ -x "$bin/initdb" ] && return
  done
  [ -n "${PG_CONFIG:-}" ] && [ -x "$("$PG_CONFIG" --bindir)/initdb" ]
}
have_libpq() { have pg_config && [ -f "$(pg_config --includedir)/libpq-fe.h" ]; }

have cc || missing+=(gcc libc6-dev)
have curl || missing+=(curl)
[ -e /etc/ssl/certs/ca-certificates.crt ] || [ "$(uname)" = Darwin ] || missing+=(ca-certificates)
have_postgres || missing+=(postgresql)
if [ "$purpose" = test ]; then have_libpq || missing+=(libpq-dev); fi

if [ "$(uname)" = Darwin ]; then # written for macOS, but not tested there
  if [ ${#missing[@]} -gt 0 ] || ! have_cargo; then
    echo "on macOS (untested), install what is missing with: xcode-select --install; brew install postgresql@17 libpq rustup" >&2
    exit 3
  fi
  exit 0
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
  if have sudo && sudo -n true 2>/dev/null; then as_root=(sudo); else as_root=(none); fi
fi

if [ ${#missing[@]} -gt 0 ]; then
  line="apt-get install -y --no-install-recommends ${missing[*]}"
  if ! have apt-get; then
    echo "this script knows Debian and Ubuntu only; install what these packages hold: ${missing[*]}" >&2
    exit 3
  fi
  if [ "${as_root[*]:-}" = none ]; then
    echo "not root, and no sudo without a password; run this, then try again: sudo $line" >&2
    exit 3
  fi
  echo "installing: ${missing[*]}" >&2
  # Debian's package makes and starts a cluster on port 5432 unless it is told not to. What somebody set stays.
  conf=/etc/postgresql-common/createcluster.conf
  if [[ " ${missing[*]} " == *" postgresql "* ]] && [ ! -e "$conf" ]; then
    ${as_root[@]+"${as_root[@]}"} mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" | ${as_root[@]+"${as_root[@]}"} tee "$conf" >/dev/null
  fi
  export DEBIAN_FRONTEND=noninteractive
  ${as_root[@]+"${as_root[@]}"} apt-get update -qq
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}" >/dev/null
fi

if ! have_cargo; then
  echo "installing a Rust toolchain for this user" >&2
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --component rustfmt,clippy >/dev/null ||
    { echo "the Rust toolchain could not be installed; get one from https://rustup.rs, then try again" >&2; exit 3; }
fi
