# shellcheck shell=bash
# Run commands in other releases of Debian: source this file after test/prefix.sh, as root, and call
#
#   debian_root SUITE [NAME]   set $root to a directory of that name (or that of the suite) with a minimal Debian of that suite
#                              (bookworm, trixie, sid, or experimental: sid that
#                              can install from there); if there is none, create it
#   in_root COMMAND...         run a command there, as root
#   in_root_alone COMMAND...   the same, without the network of this machine
#   copy_tree DIRECTORY        copy the sources into that directory of $root
#
# The directories are kept in $CONTACTSYNC_DEBIAN (/var/tmp/contactsync-debian). What in_root mounts is seen by that command only,
# and is gone when it ends, however it ends: $root can be copied and removed at any time.

debian_roots=${CONTACTSYNC_DEBIAN:-/var/tmp/contactsync-debian}

debian_root() {
    local base=$debian_roots/${1/experimental/sid}.tar mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
    root=$debian_roots/${2:-$1}
    [ ! -e "$root/ready" ] || return 0
    if [ ! -e "$base" ]; then
        rm -rf "$base.d"
        mkdir -p "$base.d"
        debootstrap --variant=minbase "${1/experimental/sid}" "$base.d" "$mirror" || return
        # a mirror of a suite that is never released can be behind
        echo 'Acquire::Check-Valid-Until "false";' >"$base.d/etc/apt/apt.conf.d/90contactsync"
        # start nothing
        printf '#!/bin/sh\nexit 101\n' >"$base.d/usr/sbin/policy-rc.d" && chmod +x "$base.d/usr/sbin/policy-rc.d"
        echo force-unsafe-io >"$base.d/etc/dpkg/dpkg.cfg.d/contactsync"
        tar -C "$base.d" -cf "$base" . && rm -rf "$base.d" || return
    fi
    rm -rf "$root"
    mkdir -p "$root"
    tar -C "$root" -xf "$base" || return
    [ "$1" != experimental ] || echo "deb $mirror experimental main" >"$root/etc/apt/sources.list.d/experimental.list"
    touch "$root/ready"
}

in_root() {
    # shellcheck disable=SC2016
    unshare --mount --pid --fork --kill-child --propagation private "${unshare[@]}" bash -c '
        mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount -t tmpfs tmpfs "$0/dev/shm" &&
        ip link set lo up && exec chroot "$0" "$@"' "$root" env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

in_root_alone() {
    local unshare=(--net)
    in_root "$@"
}

copy_tree() {
    rm -rf "${root:?}/$1"
    mkdir -p "$root/$1"
    tar -C "${top:?}" --exclude-vcs --exclude='*.o' --exclude='*.d' --exclude='*.so' --exclude=__pycache__ --exclude=./tmp_check \
        --exclude=./tmp_check_iso --exclude=./results --exclude=./log -cf - . | tar -C "$root/$1" --no-same-owner -xf -
}
