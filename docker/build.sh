#!/bin/sh
# Build the Debian package of this directory, in a Debian, as root: docker/build.sh DIRECTORY puts it there.
set -eu
cd "$(dirname "$0")/.."
export DEBIAN_FRONTEND=noninteractive

# have no server started or cluster created
mkdir -p /etc/postgresql-common/createcluster.d
echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/contactsync.conf
apt-get update
apt-get install -y --no-install-recommends build-essential debhelper pkg-config libcurl4-openssl-dev libjson-c-dev postgresql-server-dev-all
pg_buildext updatecontrol
dpkg-buildpackage -b -us -uc
mkdir -p "$1"
mv ../*contactsync*.deb "$1"
