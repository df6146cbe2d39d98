#!/usr/bin/env bash
# Build contactsync with every compiler and run its main tests with the PostgreSQL of several releases of Debian, each in a
# directory of its own (test/debian.sh). As root; requires debootstrap, and takes about 20 minutes for each release.
#
# usage: test/versions.sh [--tests "NAME..."] [SUITE...]
#
#   SUITE     bookworm, trixie, sid or experimental: PostgreSQL 15, 17, 18 and what is newer; all of them by default
#   --tests   what test/run.sh runs there, if not the regression tests and the main tests of the worker
#
# Prints a line for each release, as in the table of docs/installing.md. The exit status is 1 if something failed.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/prefix.sh"
# shellcheck source=test/debian.sh
. "$top/test/debian.sh"

tests="regress isolation 005 010 020 040 041 081 082 085 090 100 105"
if [ "${1:-}" = --tests ]; then
    tests=$2
    shift 2
fi
[ $# -gt 0 ] || set -- bookworm trixie sid experimental

# Print the compilers that the release has: gcc from 12, and clang from 14.
compilers() {
    in_root apt-cache pkgnames | grep -E '^(gcc|clang)-[0-9]+$' | sort -t - -k 1,1r -k 2n |
        awk -F - '$2 >= ($1 == "gcc" ? 12 : 14)'
}

# Build with a compiler, with warnings as errors, in a directory of its own.
build() {
    # make is the first process there, so its pipe has the name of one that was killed
    in_root rm -rf "/build/$1" /tmp/GMfifo1 && in_root mkdir -p "/build/$1" &&
        in_root make -s -j2 -C "/build/$1" -f /contactsync/Makefile CC="$1" CFLAGS="$strict_cflags" all
}

# Test one release, and print its line.
release() {
    local suite=$1 compiler good=() bad=() list pg result
    debian_root "$suite" && copy_tree contactsync && in_root apt-get -qq update || return
    if [ "$suite" = experimental ]; then
        pg=$(in_root apt-cache pkgnames postgresql-server-dev- | grep -E -- '-[0-9]+$' | sort -V | tail -n 1)
        in_root apt-get -qq install -y --no-install-recommends "postgresql-${pg##*-}" "$pg" {libpq-dev,libpq5}/experimental ||
            return
    fi
    in_root /contactsync/test/setup.sh tests || return
    mapfile -t list < <(compilers)
    in_root apt-get -qq install -y --no-install-recommends "${list[@]}" || return
    for compiler in "${list[@]}"; do
        if build "$compiler"; then good+=("$compiler"); else bad+=("$compiler"); fi
    done
    pg=$(in_root pg_config --version)
    # shellcheck disable=SC2086
    in_root /contactsync/test/run.sh $tests | tee "$debian_roots/$suite.tests"
    result=$(tail -n 1 "$debian_roots/$suite.tests")
    echo "| $suite $(in_root cat /etc/debian_version) | ${pg#PostgreSQL } | ${good[*]:-none}${bad:+; fails: ${bad[*]}} | $result |" >&3
    [ ${#bad[@]} -eq 0 ] && [[ $result == *" 0 failed" ]]
}

status=0
mkdir -p "$debian_roots"
for suite; do
    echo "$suite ... $debian_roots/$suite.log" >&2
    release "$suite" 3>&1 >"$debian_roots/$suite.log" 2>&1 </dev/null || { echo "$suite: failed" >&2; status=1; }
done
exit $status
