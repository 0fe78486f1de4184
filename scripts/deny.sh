#!/usr/bin/env bash
# Checks licenses, bans and sources of all dependencies with cargo-deny, and known vulnerabilities
# if the advisory database can be reached. Installs cargo-deny where it is missing.
set -euo pipefail
. "$(dirname "$0")/env.sh"
if ! cargo deny --version >/dev/null 2>&1; then
  echo "installing cargo-deny" >&2
  cargo install cargo-deny --locked --quiet
fi
checks=(licenses bans sources)
if cargo deny fetch db >/dev/null 2>&1; then
  checks+=(advisories)
else
  echo "the advisory database cannot be reached: known vulnerabilities are not checked" >&2
fi
cargo deny --all-features check "${checks[@]}"
