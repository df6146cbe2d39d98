#!/usr/bin/env bash
# Change one line of the source at a time, and check that the tests notice; see mutations/mutate.py.
#
# usage: test/mutate.sh [--day | NAME ...]     all mutations, ten that are chosen by the day, or those whose names begin so
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/prefix.sh"

"$top/test/setup.sh" tests || exit
private_dir
private_tree
private_postgres
as_server /usr/bin/python3 "$tree/test/mutations/mutate.py" --tree "$tree" --pg-config "$PG_CONFIG" "$@"
