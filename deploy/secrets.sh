#!/bin/sh
# Make the secrets of deploy/compose.yaml, once: sh deploy/secrets.sh [DIRECTORY]
# What is there already is left alone, so that it can be run again. Put your provider's key into kling_api_key.
set -eu
directory=${1:-$(dirname "$0")/secrets}

mkdir -p "$directory"
# Others are kept out by the directory: the users inside of the containers must be able to read the files.
chmod 700 "$directory"
cd "$directory"

random() {
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}
# keep NAME: write standard input to a new file. Its owner can write into it later, as a rotated secret must be: a container
# sees the file that it was started with, not one that takes its place.
keep() {
  if [ -e "$1" ]; then
    cat >/dev/null
  else
    cat >"$1.new"
    chmod 644 "$1.new"
    mv "$1.new" "$1"
    echo "made $directory/$1"
  fi
}

random | keep database_password
printf 'postgresql://receiver:%s@database:5432/receiver' "$(cat database_password)" | keep database_url
random | keep callback_secrets
random | keep s3_secret_key
keep s3_identities <<END
{"identities": [{"name": "receiver", "credentials": [{"accessKey": "receiver", "secretKey": "$(cat s3_secret_key)"}],
 "actions": ["Admin", "Read", "Write", "List"]}]}
END
printf '' | keep kling_api_key
