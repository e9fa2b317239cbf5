#!/bin/sh
# make_venv.sh PYTHON VENV: a virtual environment that holds uv as scripts/uv.lock has it, checked by its hash.
# Says in one line what is missing.
set -eu
python=$1 venv=$2 lock=$(dirname "$0")/uv.lock

fail() { echo "setup: $1" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 || fail "$python is not installed: install Python 3.11 to 3.14, or name one with PYTHON=..."
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' ||
  fail "$python is version $("$python" -V 2>&1 | cut -d' ' -f2): Python 3.11 to 3.14 is needed; name one with PYTHON=..."

if [ ! -x "$venv/bin/python" ] || [ ! -x "$venv/bin/uv" ]; then
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    # Debian and Ubuntu keep this part of Python in a package of its own
    package=$("$python" -c 'import sys; print(f"python3.{sys.version_info[1]}-venv")')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
      apt-get update -qq && apt-get install -y -qq "$package" >/dev/null || fail "apt-get could not install $package"
    else
      fail "$python has no venv module: sudo apt install $package, then the same command again"
    fi
  fi
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
fi
