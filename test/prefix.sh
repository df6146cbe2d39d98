# shellcheck shell=bash
# Create a private copy of the installed PostgreSQL, into which contactsync is installed and from which servers run.
#
# Everything is written below one temporary directory, so that several copies can run at the same time, any user can run
# them, and files of root do not get in the way of other users. Source this file (bash), and call these functions in order:
#
#   private_dir           create $work, the temporary directory; when the shell exits, stop the jobs and servers in it
#                         and remove it
#   private_tree          create $tree, a copy of the sources
#   private_postgres      create $bindir, a PostgreSQL whose pg_config ($PG_CONFIG) makes PGXS install into the copy
#   as_server COMMAND...  run a command as a user who may start PostgreSQL: postgres if the caller is root
#
# private_dir changes to $work, because postgres may not be able to read the current directory.

# CFLAGS of a build whose warnings are errors: our own, because those of the server's build differ between distributions, and
# its compiler is another one. Neither gcc nor clang rejects any of them.
# shellcheck disable=SC2034
strict_cflags="-O2 -g -fno-strict-aliasing -fwrapv -Wall -Wmissing-prototypes -Wpointer-arith -Wdeclaration-after-statement \
-Wvla -Wendif-labels -Wmissing-format-attribute -Wimplicit-fallthrough -Wformat-security -Wundef -Werror"

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Keep settings of a surrounding make or psql from affecting the tests, and programs from writing to the user's directories.
unset MAKEFLAGS MAKELEVEL MFLAGS VPATH PGDATA PGDATABASE PGHOST PGHOSTADDR PGPORT PGSERVICE PGUSER PGPASSWORD PGOPTIONS
unset XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_RUNTIME_DIR XDG_STATE_HOME

as_server() {
    if [ "$(id -u)" -eq 0 ]; then
        # do not use su, which lowers limits, opens a session and hides signals
        setpriv --reuid=postgres --regid=postgres --init-groups env USER=postgres LOGNAME=postgres "$@"
    else
        "$@"
    fi
}

private_dir() {
    # ignore TMPDIR, because the path of a socket is limited to 107 bytes
    work=$(mktemp -d /tmp/contactsync.XXXXXX)
    trap private_cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # the browser and other programs leave files in HOME
    export TMPDIR=$work/tmp HOME=$work
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
    # a server continues to run if the program that started it was killed
    while read -r pidfile; do
        pid=$(head -n 1 "$pidfile" 2>/dev/null)
        private_runs "$pid" || continue
        kill -QUIT "$pid" 2>/dev/null
        while private_runs "$pid"; do sleep 0.1; done
    done < <(find "$work" -name postmaster.pid 2>/dev/null)
    cd / && rm -rf "$work"
}

# Return whether a process has its working directory in the temporary directory, as a server does. A zombie has none, but
# kill -0 succeeds on it, and it stays forever in a container whose first process does not wait for its children.
private_runs() {
    [[ -n $1 && $(readlink "/proc/$1/cwd") == "$work"/* ]]
}

private_tree() {
    tree=$work/tree
    as_server mkdir "$tree"
    tar -C "$top" --exclude-vcs --exclude='*.o' --exclude='*.d' --exclude='*.so' --exclude=__pycache__ \
        --exclude=./tmp_check --exclude=./tmp_check_iso --exclude=./results --exclude=./log -cf - . |
        as_server tar -C "$tree" -xf -
}

# PostgreSQL finds its files relative to its bin directory, so a copy of that directory next to links to all other files is a
# separate installation, as long as the layout is the same. The programs must be copies, because links are followed.
private_postgres() {
    local config=${PG_CONFIG:-pg_config} bin share lib root dir
    bin=$("$config" --bindir) && share=$("$config" --sharedir) && lib=$("$config" --pkglibdir) || exit
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
    # do not test an installed contactsync
    as_server find "$work/pg" -name 'contactsync*' -type l -delete
    PG_CONFIG=$bindir/pg_config
}

# Install contactsync from a copy of the sources into such a copy of PostgreSQL: all of the above
private_installation() {
    private_dir
    private_tree
    private_postgres
    as_server make -s -C "$tree" PG_CONFIG="$PG_CONFIG" with_llvm=no -j2 install || exit
}

# Run the server with variables of the environment, or under a command: private_wrap ASSIGNMENTS [COMMAND...]
private_wrap() {
    # pg_ctl restart starts what the server was called when it was started
    local command=${*:2}
    as_server mv "$bindir/postgres" "$bindir/postgres.bin"
    as_server tee "$bindir/postgres" >/dev/null <<<"#!/bin/bash
$1 exec ${command:--a '$bindir/postgres'} '$bindir/postgres.bin' \"\$@\""
    as_server chmod +x "$bindir/postgres"
}

# Build with sanitizers from here on, and report memory errors to $work/log/report.*: private_sanitizers [COMPILER]
private_sanitizers() {
    local compiler=${1:-gcc} runtime=libasan.so
    export COPT="-O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined"
    if [ "$compiler" = clang ]; then
        runtime=libclang_rt.asan-$(uname -m).so
        COPT+=" -shared-libasan -Wno-unknown-warning-option -Wno-ignored-optimization-argument -Wno-unused-command-line-argument"
    fi
    # p11-kit allocates memory while it is initialized under a lock of the C library, which deadlocks if this
    # allocation initializes the sanitizer; therefore preload a library that allocates earlier
    as_server gcc -shared -fPIC -Wl,-z,initfirst -x c -o "$work/early.so" - <<'EOF'
#include <stdlib.h>
static void __attribute__((constructor)) early(void) { free(malloc(1)); }
EOF
    # a test may preload a library of its own
    # shellcheck disable=SC2016
    private_wrap "LD_PRELOAD=$("$compiler" -print-file-name="$runtime"):$work/early.so"'${LD_PRELOAD:+:$LD_PRELOAD}'" ASAN_OPTIONS='detect_leaks=0:log_path=$work/log/report' UBSAN_OPTIONS=print_stacktrace=1"
}
