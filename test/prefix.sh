# shellcheck shell=bash
# A private installation of the machine's PostgreSQL, to install contactsync into and run servers from.
#
# Nothing is written outside one temporary directory, so several copies can run at once, any user can run them, and what
# root leaves behind bars nobody's way. Source this file (bash), and call in this order:
#
#   private_dir           makes $work, the temporary directory; when the shell exits, jobs and servers in it are stopped
#                         and it is removed
#   private_tree          makes $tree, a copy of the sources
#   private_postgres      makes $bindir, a PostgreSQL whose pg_config ($PG_CONFIG) leads PGXS to install beside it
#   as_server COMMAND...  runs a command as a user who may start PostgreSQL: postgres if the caller is root
#
# private_dir leaves the shell in $work, since the caller's directory may be one that postgres cannot read.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What a surrounding make or a configured psql would otherwise tell the tests' own.
unset MAKEFLAGS MAKELEVEL MFLAGS PGDATA PGDATABASE PGHOST PGHOSTADDR PGPORT PGSERVICE PGUSER PGPASSWORD PGOPTIONS

as_server() {
    if [ "$(id -u)" -eq 0 ]; then
        # not su: that one lowers the limits, opens a session and hides signals
        setpriv --reuid=postgres --regid=postgres --init-groups env HOME="$work" USER=postgres LOGNAME=postgres "$@"
    else
        "$@"
    fi
}

private_dir() {
    # /tmp whatever TMPDIR says: the path of a socket is limited to 107 bytes
    work=$(mktemp -d /tmp/contactsync.XXXXXX)
    trap private_cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    export TMPDIR=$work/tmp
    mkdir "$TMPDIR" "$work/log"
    cd "$work" || exit
    [ "$(id -u)" -ne 0 ] || chown -R postgres: "$work"
}

private_cleanup() {
    local pidfile pid
    trap '' INT TERM HUP
    for pid in $(jobs -p); do
        kill -TERM -- "-$pid" 2>/dev/null || kill -TERM "$pid" 2>/dev/null
    done
    wait
    # a server outlives the program that started it if that one was killed
    while read -r pidfile; do
        pid=$(head -n 1 "$pidfile" 2>/dev/null)
        [ -n "$pid" ] || continue
        kill -QUIT "$pid" 2>/dev/null
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    done < <(find "$work" -name postmaster.pid 2>/dev/null)
    cd / && rm -rf "$work"
}

private_tree() {
    tree=$work/tree
    as_server mkdir "$tree"
    tar -C "$top" --exclude-vcs --exclude='*.o' --exclude='*.d' --exclude='*.so' --exclude=__pycache__ \
        --exclude=./tmp_check --exclude=./tmp_check_iso --exclude=./results --exclude=./log -cf - . |
        as_server tar -C "$tree" -xf -
}

# PostgreSQL finds its files by the way from its bin directory, so a copy of that beside links to all else is an
# installation of its own, as long as it keeps the layout. The programs must be real copies: links are followed.
private_postgres() {
    local config=${PG_CONFIG:-pg_config} bin share lib root dir
    bin=$("$config" --bindir) share=$("$config" --sharedir) lib=$("$config" --pkglibdir)
    root=$bin
    while [[ $share != "$root"/* || $lib != "$root"/* ]]; do root=${root%/*}; done

    bindir=$work/pg${bin#"$root"}
    for dir in "$bin" "$share" "$lib"; do
        as_server mkdir -p "$work/pg${dir#"$root"}"
    done
    as_server cp -r "$bin/." "$bindir/"
    as_server cp -rs "$share/." "$work/pg${share#"$root"}/"
    as_server cp -rs "$lib/." "$work/pg${lib#"$root"}/"
    as_server ln -s "$root/include" "$work/pg/include"
    # an installed contactsync is not the one to test
    as_server find "$work/pg" -name 'contactsync*' -type l -delete
    PG_CONFIG=$bindir/pg_config
}

# Have the server run under a command: private_wrap COMMAND...
private_wrap() {
    as_server mv "$bindir/postgres" "$bindir/postgres.bin"
    as_server tee "$bindir/postgres" >/dev/null <<<"#!/bin/sh
exec $* '$bindir/postgres.bin' \"\$@\""
    as_server chmod +x "$bindir/postgres"
}

# Have what is built from here on find errors of memory, and report them to $work/log/report.*
private_sanitizers() {
    export COPT="-Wno-error -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined"
    # p11-kit's initialisation allocates under a lock of the C library, and that is a deadlock if it is what
    # brings up the sanitizer; so something that is initialised before it does
    as_server gcc -shared -fPIC -Wl,-z,initfirst -x c -o "$work/early.so" - <<'EOF'
#include <stdlib.h>
static void __attribute__((constructor)) early(void) { free(malloc(1)); }
EOF
    private_wrap env LD_PRELOAD="$(gcc -print-file-name=libasan.so):$work/early.so" \
        ASAN_OPTIONS="detect_leaks=0:log_path=$work/log/report" UBSAN_OPTIONS=print_stacktrace=1
}
