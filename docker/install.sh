#!/bin/sh
# Install PostgreSQL, contactsync and the sandbox into a Debian, as root: docker/install.sh DIRECTORY, with the package in it.
# docker/start.sh starts them.
set -eu
cd "$(dirname "$0")/.."
export DEBIAN_FRONTEND=noninteractive

mkdir -p /etc/postgresql-common/createcluster.d
echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/contactsync.conf
apt-get update
# python3-aiohttp is what the sandbox needs
apt-get install -y --no-install-recommends "$1"/postgresql-*-contactsync_*.deb python3-aiohttp
rm -rf /var/lib/apt/lists/*
install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data
install -D docker/start.sh /usr/local/bin/contactsync-start
mkdir -p /usr/local/share/contactsync
cp -r test/sandbox test/demo/servers.sql /usr/local/share/contactsync/
