#!/usr/bin/env bash
# From nothing to the first contact mirrored, as somebody would who has a bare Debian, these sources, and README.md: type its first
# statements into ./test/demo.sh --shell, as root and as an ordinary user without sudo. As root; requires debootstrap and iproute2.
#
# usage: test/newcomer.sh [SUITE...]     bookworm and trixie by default
#
# Prints a line for each, as in the table of docs/installing.md: the commands that were typed, and after how many seconds the first
# contact was at the simulated provider. The exit status is 1 if one did not arrive.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/prefix.sh"
# shellcheck source=test/debian.sh
. "$top/test/debian.sh"

[ $# -gt 0 ] || set -- bookworm trixie

# The statements of README.md until a row is watched, one more row, and what the simulated provider has.
statements() {
    awk '/^## Five minutes/ { tour = 1 } /^```$/ && sql { exit } sql; tour && /^```sql/ { sql = 1 }' "$top/README.md"
    echo "INSERT INTO customers VALUES (1, 'jane@example.com', 'Jane', 'team', 'en', true, true);"
    echo "CALL contactsync_wait('mailingcore');"
    echo "SELECT 'arrived: ' || email FROM sandbox.contacts;"
}

# Run ./test/demo.sh --shell there, as that user, until Jane has arrived.
shell() {
    local in=()
    [ "$1" = root ] || in=(setpriv --reuid "$1" --regid "$1" --init-groups env "HOME=/home/$1")
    # shellcheck disable=SC2016
    statements | in_root "${in[@]}" sh -c 'cd "$0" && exec ./test/demo.sh --shell' "$2"
}

# Do what a newcomer does, and print a line: newcomer SUITE USER
newcomer() {
    local suite=$1 user=$2 log start commands=1 install
    debian_root "$suite" "newcomer-$suite-$user" || return
    log=$root.log
    if [ "$user" = root ]; then
        copy_tree contactsync
    else
        in_root sh -c "id $user >/dev/null 2>&1 || useradd -m $user" && copy_tree "home/$user/contactsync" &&
            in_root chown -R "$user:" "/home/$user"
    fi || return
    start=$SECONDS
    if ! shell "$user" "$([ "$user" = root ] || echo "/home/$user")/contactsync" >"$log" 2>&1; then
        # it says which packages root is to install
        install=$(sed -n 's/^ *sudo \(apt-get install .*\)/\1/p' "$log")
        [ -n "$install" ] && commands=$((commands + 2)) &&
            in_root sh -c "apt-get -qq update && apt-get -qq -y ${install#apt-get }" >>"$log" 2>&1 &&
            shell "$user" "/home/$user/contactsync" >>"$log" 2>&1
    fi
    if grep -q 'arrived: jane@example.com' "$log"; then
        echo "| Debian $(in_root cat /etc/debian_version), $user | $commands | $((SECONDS - start)) |" >&3
    else
        tail -n 40 "$log"
        false
    fi
}

status=0
exec 3>&1
for suite; do
    for user in root ann; do
        newcomer "$suite" "$user" || { echo "nobody arrived on $suite as $user" >&3; status=1; }
    done
done
exit $status
