#!/usr/bin/env bash
# Build the Debian package, run its tests, install and upgrade it as the container does, and remove it, in new directories with
# a minimal Debian (test/debian.sh). As root; requires debootstrap and iproute2, and takes some minutes.
#
# usage: test/packages.sh [SUITE]     bookworm, trixie (the default) or sid
#
# Prints a line "ok - ..." or "not ok - ..." for each check, and the log of what failed.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/prefix.sh"
# shellcheck source=test/debian.sh
. "$top/test/debian.sh"

suite=${1:-trixie} status=0
log=$debian_roots/packages.log

# Run a command as a check: check TITLE COMMAND...
check() {
    if "${@:2}" >"$log" 2>&1 </dev/null; then
        echo "ok - $1"
    else
        echo "not ok - $1"
        tail -n 60 "$log" | sed 's/^/#   /'
        status=1
        return 1
    fi
}

# Make another package, equal but for a greater version, in $root.
newer_package() {
    # shellcheck disable=SC2016
    in_root sh -ec 'cd /packages && dpkg-deb -R postgresql-*-contactsync_*.deb new && sed -i "s/^Version: .*/&+1/" new/DEBIAN/control &&
        mkdir -p ../newer && dpkg-deb -b --root-owner-group new ../newer/contactsync.deb && rm -r new'
}

autopkgtest() {
    in_root sh -ec 'apt-get -qq install -y --no-install-recommends autopkgtest
        autopkgtest --no-built-binaries /packages/postgresql-*-contactsync_*.deb /contactsync/source -- null'
}

# Start the container's server and sandbox, send a contact, upgrade the package while the server runs, restart it and send
# another one.
container() {
    in_root_alone bash -es <<'EOF'
        postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
        sql() { postgres psql -XqAt -v ON_ERROR_STOP=1 -d postgres "$@"; }
        start() {
            POSTGRES_PASSWORD=secret postgres contactsync-start >/tmp/server.log 2>&1 & server=$!
            until sql -c "SELECT 1" >/dev/null 2>&1; do kill -0 $server; sleep 0.2; done
        }
        send() {
            sql -c "SELECT contactsync_upsert('mailingcore', '{\"email\": \"$1\", \"external_id\": \"$1\"}')"
            sql -c "CALL contactsync_wait('mailingcore')"
            sql -c "SELECT email FROM sandbox.contacts" | grep -x "$1"
        }
        cd /
        postgres contactsync-start sandbox &
        start
        sql -v sandbox=http://127.0.0.1:8025 -f /usr/local/share/contactsync/servers.sql
        send before@example.com
        dpkg -i /newer/contactsync.deb </dev/null
        send during@example.com
        kill -INT "$(head -n 1 /var/lib/postgresql/data/postmaster.pid)"
        wait $server
        start
        send after@example.com
        PGPASSWORD=secret psql -h 127.0.0.1 -U postgres -c "ALTER EXTENSION contactsync UPDATE"
EOF
}

removed() {
    in_root sh -ec 'apt-get -qq purge -y "postgresql-*-contactsync" && ! find /usr/lib/postgresql /usr/share/postgresql | grep contactsync'
}

mkdir -p "$debian_roots"
rm -rf "$debian_roots/build" "$debian_roots/container"
check "make a Debian" debian_root "$suite" build && copy_tree contactsync/source &&
    check "the package is built" in_root /contactsync/source/docker/build.sh /packages &&
    check "another version of it" newer_package || exit
check "it passes its tests" autopkgtest
packages=$root
debian_root "$suite" container >/dev/null && copy_tree contactsync && cp -r "$packages/packages" "$packages/newer" "$root/"
check "it installs" in_root /contactsync/docker/install.sh /packages &&
    check "the container runs, and the package can be upgraded" container
check "it can be removed" removed
exit $status
