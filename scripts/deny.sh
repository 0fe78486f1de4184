#!/usr/bin/env bash
# Checks licenses, bans and sources of all dependencies with cargo-deny, and known vulnerabilities
# if the advisory database can be reached. Installs cargo-deny below target/ where it is missing,
# unless SKYFILL_DENY=if-installed. That took 3 min 41 s of CPU time when it was tried.
set -euo pipefail
. "$(dirname "$0")/env.sh"
export PATH="$PATH:$ROOT/target/tools/bin"
if ! cargo deny --version >/dev/null 2>&1; then
  if [ "${SKYFILL_DENY:-install}" = if-installed ]; then
    echo "cargo-deny is not installed: licenses, bans and sources are not checked" >&2
    exit 0
  fi
  echo "installing cargo-deny" >&2
  cargo install cargo-deny --version 0.20.2 --locked --quiet --root target/tools
fi
checks=(licenses bans sources)
if cargo deny fetch db >/dev/null 2>&1; then
  checks+=(advisories)
else
  echo "the advisory database cannot be reached: known vulnerabilities are not checked" >&2
fi
cargo deny --all-features check "${checks[@]}"
