#!/usr/bin/env bash
# Bring the C sources into PostgreSQL's layout, with pg_bsd_indent as pgindent of PostgreSQL 15 calls it.
#
# usage: test/indent.sh [--check]     names the files that it changed; --check: that it would change
#
# typedefs.list names the types, without which indent takes "Foo *bar" for a product. It is made anew from the debugging
# symbols if there is a build; types of ours that are newer than that are found by their name.
set -eu
shopt -s nullglob
cd "$(dirname "${BASH_SOURCE[0]}")/.."

options=(-bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 -l79 -lp -lpl -nip -npro -sac -tpg -ts4)

check=false
[ "${1:-}" != --check ] || check=true

if ! $check && [ -e contactsync.so ]; then
    # of the types of all headers those that are mentioned here; bool is a macro; some names are oftener variables
    {
        objdump --dwarf=info contactsync.so |
            sed -n '/DW_TAG_typedef/,/DW_AT_name/s/.*DW_AT_name .*: \([A-Za-z_][A-Za-z0-9_]*\)[[:space:]]*$/\1/p' |
            grep -xF -f <(grep -ohE '[A-Za-z_][A-Za-z0-9_]*' src/*/*.[ch] src/*/*/*.[ch] | sort -u)
        echo bool
    } | grep -vxE 'date|interval|reference|string|text|timestamp|type' | LC_ALL=C sort -u >typedefs.list
fi

types=$(mktemp) new=$(mktemp)
trap 'rm -f "$types" "$new"' EXIT
grep -ohE '\bCs[A-Z][A-Za-z0-9]*|^} [A-Z][A-Za-z0-9]*;' src/*/*.[ch] src/*/*/*.[ch] | tr -d '} ;' | sort -u - typedefs.list >"$types"

for file in src/*/*.[ch] src/*/*/*.[ch]; do
    # pgindent puts one space, not a tab, before the star of a function's type
    pg_bsd_indent "${options[@]}" -U"$types" -st <"$file" | sed -E 's/^([A-Za-z_][^[:space:]]*)[[:space:]]+\*$/\1 */' >"$new"
    cmp -s "$new" "$file" && continue
    echo "$file"
    $check || cat "$new" >"$file"
done
