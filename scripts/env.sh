# Sourced by the other scripts: the folder of the project, and cargo in PATH also right after its
# installation.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -x "$HOME/.cargo/bin/cargo" ] && export PATH="$HOME/.cargo/bin:$PATH"
# The scripts look for what they built where cargo puts it by default.
unset CARGO_TARGET_DIR
cd "$ROOT"
