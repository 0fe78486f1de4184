# Sourced by the other scripts: the folder of the project, and cargo in PATH also right after its
# installation.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -x "$HOME/.cargo/bin/cargo" ] && export PATH="$HOME/.cargo/bin:$PATH"
# The scripts look for what they built where cargo puts it by default.
unset CARGO_TARGET_DIR
cd "$ROOT"
# Some tests compare with real repos, which are not in the project. Where they are absent, these
# tests are ignored. It is said here and not by each script, since the tests are built for it.
if [ ! -e ../shared ] && [ -z "${SKYFILL_TESTS_WITHOUT_SHARED:-}" ]; then
  export SKYFILL_TESTS_WITHOUT_SHARED=1
fi
