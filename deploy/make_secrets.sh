#!/bin/sh
# Makes the passwords of docker-compose.yml, each once: a file that exists is kept. Prints none of them.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets

random() {
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

password() {
  [ -e "secrets/$1" ] || random > "secrets/$1"
}

# A user for the proxy: the password in one file, its salted hash, which is all the proxy gets, in another.
user() {
  if [ ! -e "secrets/$1_password" ] || [ ! -e "secrets/$1_users" ]; then
    random > "secrets/$1_password"
    printf '%s:%s\n' "$1" "$(openssl passwd -apr1 -in "secrets/$1_password")" > "secrets/$1_users"
  fi
}

password clickhouse_password
password clickhouse_reader_password
password grafana_admin_password
password alertmanager_token
user console
user collector
# Containers read them as users of their own. The folder stays closed to everybody else on this machine.
chmod 0644 secrets/*
chmod 0700 secrets
echo "deploy/secrets is complete: $(ls secrets | tr '\n' ' ')"
