#!/usr/bin/env bash
# Install the packages for building and testing on Debian. If all are installed, do nothing and require no privileges.
#
# usage: test/setup.sh [tests | lint | bench | fuzz]     tests: also a browser, a driver, valgrind and what fuzz needs, for
#                                          test/run.sh; lint: the tools of 'make lint' and 'make indent'; bench: those of 'make bench';
#                                          fuzz: clang and its libFuzzer, for 'make fuzz'
#
# The PostgreSQL is the newest one that is installed, or else the distribution's; with PG_CONFIG set, it is that one. This
# creates and starts no cluster, and changes no setting of the machine: the tests use their own servers.
set -eu

command -v dpkg-query >/dev/null || exit 0      # not Debian: the build reports what is missing

purpose=${1:-}
packages=(gcc make libc6-dev pkg-config libcurl4-openssl-dev libjson-c-dev ca-certificates
    perl libipc-run-perl libio-socket-ssl-perl openssl python3-aiohttp)
[ "$purpose" != tests ] || packages+=(chromium fonts-dejavu-core python3-psycopg2 valgrind)
[[ $purpose != @(tests|fuzz) ]] || packages+=(clang libclang-rt-dev)
[ "$purpose" != lint ] || packages+=(cppcheck)
[ "$purpose" != bench ] || packages+=(python3-psycopg2)

# Print the major version to build for, or nothing if no package list has been fetched yet.
server_version() {
    local version
    version=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' 'postgresql-[0-9]*' 2>/dev/null |
        sed -n 's/^installed postgresql-\([0-9]*\)$/\1/p' | sort -n | tail -n 1)
    [ -n "$version" ] ||
        version=$(apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1)
    echo "$version"
}

missing() {
    local package version more=()
    if [ -z "${PG_CONFIG:-}" ]; then
        version=$(server_version)
        more+=("postgresql${version:+-$version}" "postgresql-server-dev-${version:-all}")
    fi
    # Debian 13 does not have this one
    [ "$purpose" != lint ] || mapfile -t -O "${#more[@]}" more < <(apt-cache pkgnames pg-bsd-indent)
    for package in "${packages[@]}" "${more[@]}"; do
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
    echo "Some packages are missing. Install them with:" >&2
    echo "    sudo apt-get install --no-install-recommends ${want[*]}" >&2
    exit 1
fi

# If two copies run at the same time, the second waits here and then finds nothing to do.
exec 9>/run/contactsync-setup.lock
flock 9
mapfile -t want < <(missing)
[ ${#want[@]} -gt 0 ] || exit 0

# Keep the server package from creating and starting a cluster on port 5432.
cluster_conf=/etc/postgresql-common/createcluster.d/zz-contactsync-setup.conf
trap 'rm -f "$cluster_conf"' EXIT
mkdir -p "${cluster_conf%/*}"
echo "create_main_cluster = false" >"$cluster_conf"

export DEBIAN_FRONTEND=noninteractive
apt-get -qq update || true      # ignore a broken third-party source
mapfile -t want < <(missing)    # the lists name the distribution's PostgreSQL
echo "installing ${want[*]}"
if ! output=$(apt-get -q -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${want[@]}" 2>&1); then
    echo "$output" >&2
    exit 1
fi
