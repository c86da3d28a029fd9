#!/bin/sh
# Check what lies in deploy/ without a container engine: sh deploy/check.sh [DIRECTORY OF THE PYTHON TOOLS]
# A tool that is missing is named and its check left out, unless DEPLOY_TOOLS=required.
set -eu
cd "$(dirname "$0")/.."
bin=${1:-.venv/bin}
bin=$(cd "$bin" && pwd)
missing=""

# have TOOL PACKAGE: whether TOOL can be run; remembers that it cannot.
have() {
  command -v "$1" >/dev/null 2>&1 && return 0
  echo "NOT CHECKED: $1 is missing; it comes with the system's package $2" >&2
  missing="$missing $1"
  return 1
}

"$bin/hadolint" deploy/Dockerfile
"$bin/check-jsonschema" --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
"$bin/check-jsonschema" --quiet --schemafile deploy/grafana/dashboard.schema.json deploy/grafana/receiver.json
for script in deploy/*.sh; do
  sh -n "$script"
done

if have promtool prometheus; then
  promtool check config deploy/prometheus/prometheus.yml >/dev/null
  promtool check rules deploy/prometheus/receiver.rules.yml >/dev/null
  promtool test rules deploy/prometheus/receiver.rules.test.yml >/dev/null
fi

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

if have caddy caddy; then
  said=$(DOMAIN=hooks.example.com XDG_DATA_HOME="$place" XDG_CONFIG_HOME="$place" \
    caddy validate --config deploy/caddy/Caddyfile --adapter caddyfile 2>&1) || {
    echo "$said" >&2
    exit 1
  }
fi

if have systemd-analyze systemd; then
  units="$place/units"
  mkdir "$units"
  # The program need not be installed here, only named rightly.
  for unit in deploy/systemd/*.service deploy/systemd/*.target; do
    sed "s#/opt/receiver/bin/receiver#$bin/receiver#" "$unit" >"$units/${unit##*/}"
  done
  for role in web worker; do
    cp "$units/receiver-$role@.service" "$units/receiver-$role@8080.service"
  done
  # It says what is wrong and ends with 0 all the same.
  said=$(SYSTEMD_UNIT_PATH="$units:" systemd-analyze verify --recursive-errors=no \
    "$units/receiver.target" "$units/receiver-migrate.service" \
    "$units/receiver-web@8080.service" "$units/receiver-worker@8080.service" 2>&1) || true
  if [ -n "$said" ]; then
    echo "$said" >&2
    exit 1
  fi
fi

if docker compose version >/dev/null 2>&1; then
  DOMAIN=hooks.example.com docker compose -f deploy/compose.yaml config --quiet
else
  echo "NOT CHECKED: docker compose is missing; the file was checked against the schema of its specification" >&2
fi

# What the Dockerfile does; half a minute, so only where everything is checked.
if [ "${DEPLOY_TOOLS:-}" = required ] && "$bin/python" -c 'import pip' 2>/dev/null; then
  pip() {
    "$bin/python" -m pip --disable-pip-version-check --quiet --quiet "$@"
  }
  "$bin/python" deploy/pins.py requirements/dev.txt av >"$place/video.txt"
  "$bin/python" deploy/pins.py requirements/dev.txt hatchling packaging pathspec pluggy tomlkit trove-classifiers \
    >"$place/tools.txt"
  for environment in image tools; do
    "$bin/python" -m venv --without-pip "$place/$environment"
  done
  pip --python "$place/tools" install --require-hashes --only-binary=:all: -r "$place/tools.txt"
  pip --python "$place/image" install --require-hashes --only-binary=:all: -r requirements/main.txt -r "$place/video.txt"
  "$place/tools/bin/hatchling" build -t wheel -d "$place/wheels" >/dev/null
  pip --python "$place/image" install --no-index --no-deps "$place"/wheels/*.whl
  (cd "$place" && ./image/bin/receiver --version >/dev/null)
fi

if [ -n "$missing" ] && [ "${DEPLOY_TOOLS:-}" = required ]; then
  echo "deploy/: tools are missing:$missing" >&2
  exit 1
fi
