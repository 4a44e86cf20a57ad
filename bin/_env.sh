# Sourced by the scripts beside it. Sets $root (the checkout) and $python (in its environment), and
# defines one function to call: `prepare requirements.lock …`. Works with Bash 3.2.
set -euo pipefail

root="$(CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
script="bin/$(basename -- "$0")"

die() {
    printf '%s: %s\n' "$script" "$1" >&2
    exit 1
}

# Creates .venv unless there is a working one, and installs the named files if they have changed.
prepare() {
    if ! is_new_enough "$python"; then
        make_environment
    fi
    local file
    for file in "$@"; do
        if ! cmp -s "$root/$file" "$root/.venv/installed-$file"; then
            install_requirements "$file"
        fi
    done
}

make_environment() {
    local base
    base="$(find_python)"
    printf '%s: making an environment in .venv, with %s\n' "$script" "$("$base" --version)" >&2
    with_log environment "$base" -m venv --clear "$root/.venv" ||
        die "could not make $root/.venv: $(last_line environment)"
}

find_python() {
    local name without_venv=''
    for name in python3.13 python3.12 python3.11 python3; do
        is_new_enough "$name" || continue
        if "$name" -c 'import ensurepip, venv' 2>/dev/null; then
            printf '%s' "$name"
            return
        fi
        without_venv="${without_venv:-$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])')}"
    done
    if [ -n "$without_venv" ]; then
        die "Python $without_venv has no venv module: install it (Debian and Ubuntu: apt-get install python$without_venv-venv)."
    fi
    die "Python 3.11 or newer is needed, and $(python3 --version 2>/dev/null || echo 'no Python 3') was found."
}

# Runs the candidate instead of looking for it: a version manager's shim exists and fails.
is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

install_requirements() {
    printf '%s: installing %s (once; this takes a minute)\n' "$script" "$1" >&2
    if ! with_log install "$python" -m pip install --disable-pip-version-check --no-input \
        --require-hashes --only-binary :all: --requirement "$root/$1"; then
        if grep -qE 'NewConnectionError|NameResolution|ConnectTimeout|ProxyError' "$(log_of install)"; then
            die "could not install $1: the first run needs the network (details: $(log_of install))."
        fi
        die "could not install $1: $(last_line install)"
    fi
    cp "$root/$1" "$root/.venv/installed-$1"
}

log_of() {
    printf '%s' "$root/.local/$1.log"
}

last_line() {
    printf '%s (details: %s).' "$(grep -v '^\s*$' "$(log_of "$1")" | tail -n 1)" "$(log_of "$1")"
}

# Runs a command with its output in a log; a signal to this script ends the command too.
with_log() {
    local log status=0
    log="$(log_of "$1")"
    mkdir -p "$root/.local" 2>/dev/null && : >"$log" ||
        die "cannot write to $root/.local: run this as the user who owns it."
    shift
    "$@" >"$log" 2>&1 </dev/null &
    trap "kill $! 2>/dev/null; exit 130" INT
    trap "kill $! 2>/dev/null; exit 143" TERM HUP
    wait $! || status=$?
    trap - INT TERM HUP
    return $status
}
