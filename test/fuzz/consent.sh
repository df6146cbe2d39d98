#!/usr/bin/env bash
# Run random histories that check people's consent, on a private copy of the machine's PostgreSQL; see consent.py.
#
# usage: test/fuzz/consent.sh [--seed N] [--seeds N] [--jobs N] [--steps N] [--providers NAME,...] [--acts NAME,...] [--these SEED,...] [--kept] [--verbose] [--keep]
#
# Without arguments it runs a few seeds in about a minute; the long form is --seeds 200 --jobs 2. To repeat a failing seed,
# use --seed N --seeds 1; --kept runs the seeds of consent_seeds.txt, which failed once. Needs python3-psycopg2 in addition to
# the packages of the tests.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/../prefix.sh"

"$top/test/setup.sh" bench || exit
private_installation
as_server /usr/bin/python3 "$tree/test/fuzz/consent.py" --bindir "$bindir" --work "$work" "$@"
