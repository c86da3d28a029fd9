#!/bin/sh
# Build a virtual environment from a pinned file: sh deploy/venv.sh DIRECTORY REQUIREMENTS
# Some systems ship a Python without ensurepip; their own pip can then fill the environment from outside.
set -eu
venv=$1
requirements=$2
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || {
  echo "receiver needs Python 3.11 to 3.14; this is $("$python" --version 2>&1). Name another: make PYTHON=python3.12 …" >&2
  exit 1
}
if [ ! -x "$venv/bin/python" ]; then
  if "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv "$venv"
  elif "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --without-pip "$venv"
  else
    echo "This Python has neither ensurepip nor pip. On Debian and Ubuntu: apt install python3-venv" >&2
    exit 1
  fi
fi
pip() {
  if "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    "$venv/bin/python" -m pip --disable-pip-version-check "$@"
  else
    "$python" -m pip --disable-pip-version-check --python "$venv/bin/python" "$@"
  fi
}
pip install --quiet --require-hashes -r "$requirements"
pip install --quiet --no-deps --no-build-isolation --editable .
