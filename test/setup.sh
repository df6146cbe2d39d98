#!/usr/bin/env bash
# Install what building and testing need on Debian 12; does nothing, and needs no right, where all of it is there.
#
# usage: test/setup.sh [tests | lint | bench]     tests: also a browser, for test/run.sh; lint: the tools of 'make lint' and
#                                          'make indent'; bench: those of 'make bench'
#
# No cluster is created or started, and no setting of the machine is changed: the tests have servers of their own.
set -eu

command -v dpkg-query >/dev/null || exit 0      # not Debian: the build will say what it misses

packages=(gcc make libc6-dev pkg-config libcurl4-openssl-dev libjson-c-dev ca-certificates
    perl libipc-run-perl libio-socket-ssl-perl openssl python3-aiohttp)
[ -n "${PG_CONFIG:-}" ] || packages+=(postgresql-15 postgresql-server-dev-15)
[ "${1:-}" != tests ] || packages+=(chromium fonts-dejavu-core)
[ "${1:-}" != lint ] || packages+=(cppcheck pg-bsd-indent)
[ "${1:-}" != bench ] || packages+=(python3-psycopg2)

missing() {
    local package
    for package in "${packages[@]}"; do
        case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) in
            installed) ;;
            *) echo "$package" ;;
        esac
    done
}

mapfile -t want < <(missing)
[ ${#want[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    if sudo -n true 2>/dev/null; then
        exec sudo -n PG_CONFIG="${PG_CONFIG:-}" bash "${BASH_SOURCE[0]}" "$@"
    fi
    echo "Some packages are missing. Please type:" >&2
    echo "    sudo apt-get install --no-install-recommends ${want[*]}" >&2
    exit 1
fi

# Two copies of the tests may get here at once: the second waits, and finds nothing left to do.
exec 9>/run/contactsync-setup.lock
flock 9
mapfile -t want < <(missing)
[ ${#want[@]} -gt 0 ] || exit 0

# The server package would create and start a cluster on port 5432.
cluster_conf=/etc/postgresql-common/createcluster.d/zz-contactsync-setup.conf
trap 'rm -f "$cluster_conf"' EXIT
mkdir -p "${cluster_conf%/*}"
echo "create_main_cluster = false" >"$cluster_conf"

echo "installing ${want[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update || true      # a broken third-party source is none of our business
if ! output=$(apt-get -q -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${want[@]}" 2>&1); then
    echo "$output" >&2
    exit 1
fi
