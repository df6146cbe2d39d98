#!/usr/bin/env bash
# Format the C sources in PostgreSQL's style, calling pg_bsd_indent as pgindent of PostgreSQL 15 does.
#
# usage: test/indent.sh [--check]     print the names of changed files; --check: of files that would change
#
# typedefs.list contains the names of types, without which indent takes "Foo *bar" for a product. If there is a build, the
# list is regenerated from its debugging symbols; newer types of this extension are recognized by their names.
set -eu
shopt -s nullglob
cd "$(dirname "${BASH_SOURCE[0]}")/.."

options=(-bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 -l79 -lp -lpl -nip -npro -sac -tpg -ts4)

check=false
[ "${1:-}" != --check ] || check=true

if ! $check && [ -e contactsync.so ]; then
    # keep only types that the sources mention; drop bool, which is a macro, and names that are more often variables
    {
        objdump --dwarf=info contactsync.so |
            sed -n '/DW_TAG_typedef/,/DW_AT_name/s/.*DW_AT_name .*: \([A-Za-z_][A-Za-z0-9_]*\)[[:space:]]*$/\1/p' |
            grep -xF -f <(grep -ohE '[A-Za-z_][A-Za-z0-9_]*' src/*/*.[ch] src/*/*/*.[ch] test/fuzz/targets/*.[ch] | sort -u)
        echo bool
    } | grep -vxE 'date|interval|reference|string|text|timestamp|type' | LC_ALL=C sort -u >typedefs.list
fi

types=$(mktemp) new=$(mktemp)
trap 'rm -f "$types" "$new"' EXIT
grep -ohE '\bCs[A-Z][A-Za-z0-9]*|^} [A-Z][A-Za-z0-9]*;' src/*/*.[ch] src/*/*/*.[ch] test/fuzz/targets/*.[ch] | tr -d '} ;' | sort -u - typedefs.list >"$types"

for file in src/*/*.[ch] src/*/*/*.[ch] test/fuzz/targets/*.[ch]; do
    # like pgindent, put a space instead of a tab before the star of a function's return type
    pg_bsd_indent "${options[@]}" -U"$types" -st <"$file" | sed -E 's/^([A-Za-z_][^[:space:]]*)[[:space:]]+\*$/\1 */' >"$new"
    cmp -s "$new" "$file" && continue
    echo "$file"
    $check || cat "$new" >"$file"
done
