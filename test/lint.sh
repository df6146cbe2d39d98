#!/usr/bin/env bash
# Check what a review should not have to check. Requires a build ('make lint' creates one); skips checks whose tool is missing.
#
# usage: test/lint.sh     print a line "ok - ..." or "not ok - ..." for each check, followed by the problems found
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# The folders of src/, from the top. A file includes and calls only files in its own folder or in folders below.
folders='api worker delivery capture store provider http base'
max_file=600 max_function=120

shopt -s nullglob
sources=(src/*/*.c src/*/*/*.c)
headers=(src/*/*.h src/*/*/*.h)
scripts=(sql/contactsync--*.sql)
status=0

# Run a check, which is a function that prints the problems found: check FUNCTION TITLE
check() {
    local found
    found=$("$1" 2>&1)
    if [ -z "$found" ]; then
        echo "ok - $2"
    else
        echo "not ok - $2"
        sed 's/^/#   /' <<<"$found"
        status=1
    fi
}

skip() {
    echo "# skipped: $1"
}

# ---------------------------------------------------------------------------
# Structure
# ---------------------------------------------------------------------------

# Print each file that another file requires, as FILE REQUIRED HOW. x.c and x.h are one file, folder/x; HOW is "includes" or
# the name of a function or variable. The names are the symbols of the objects.
requirements() {
    awk '
        FNR == 1 { folder = FILENAME; sub(/[^\/]*$/, "", folder) }
        /^#include "/ {
            split($0, part, "\"")
            if ("src/" part[2] in file) required = "src/" part[2]
            else if (folder part[2] in file) required = folder part[2]
            else next
            print name(FILENAME), name(required), "includes"
        }
        function name(path) { sub(/^src\//, "", path); sub(/\.[ch]$/, "", path); return path }
        BEGIN { for (i = 1; i < ARGC; i++) file[ARGV[i]] }
    ' "${sources[@]}" "${headers[@]}"
    symbols | awk '
        $2 == "U" { users[$3] = users[$3] " " $1; next }
                  { definer[$3] = $1 }
        END {
            for (symbol in users)
                if (symbol in definer) {
                    n = split(users[symbol], user, " ")
                    for (i = 1; i <= n; i++) print user[i], definer[symbol], symbol
                }
        }'
}

# Print the external symbols of the objects, as FILE TYPE SYMBOL; type U is a use of a symbol that is defined elsewhere.
symbols() {
    nm --print-file-name --extern-only "${sources[@]/%.c/.o}" |
        sed -E 's/^src\/([^:]*)\.o:[0-9a-f ]+ ([A-Za-z]) /\1 \2 /'
}

layering() {
    awk -v folders="$folders" '
        BEGIN { n = split(folders, list, " "); for (i = 1; i <= n; i++) rank[list[i]] = i }
        function folder(name) { sub(/\/.*/, "", name); return name }
        !(folder($1) in rank) { print $1 ": its folder is not in the list in test/lint.sh"; next }
        rank[folder($1)] > rank[folder($2)] { print $1 " is below " $2 ": " $3 }
    ' <<<"$requirements" | sort -u
}

# The files of a folder require each other in one direction too. Repeatedly remove the files that require nothing and those
# that nothing requires; what remains are circles. Print a shortest one for each file.
circles() {
    awk '
        function folder(name) { sub(/\/.*/, "", name); return name }
        $1 != $2 && folder($1) == folder($2) {
            how[$1, $2] = how[$1, $2] (how[$1, $2] == "" ? "" : ", ") $3
            file[$1]; file[$2]
        }
        function trim(    pair, part, from, to, f, n) {
            do {
                delete from; delete to; n = 0
                for (pair in how) { split(pair, part, SUBSEP); from[part[1]]; to[part[2]] }
                for (pair in how) {
                    split(pair, part, SUBSEP)
                    if (!(part[1] in to) || !(part[2] in from)) { delete how[pair]; n++ }
                }
            } while (n > 0)
        }
        function show(start,    pair, part, queue, head, tail, before, f, text, reasons) {
            queue[tail = 1] = start
            for (head = 1; head <= tail; head++)
                for (f in file) {
                    if (!((queue[head], f) in how)) continue
                    if (f == start) {
                        text = f
                        for (f = queue[head]; ; f = before[f]) {
                            reasons = "\n    " f ": " how[f, next_of(text)] reasons
                            text = f " -> " text
                            shown[f]
                            if (f == start) { print text reasons; return }
                        }
                    }
                    if (!(f in before) && f != start) { before[f] = queue[head]; queue[++tail] = f }
                }
        }
        function next_of(text) { sub(/ .*/, "", text); return text }
        END {
            trim()
            n = 0
            for (f in file) names[++n] = f
            for (i = 1; i <= n; i++) if (!(names[i] in shown)) show(names[i])
        }
    ' <<<"$requirements"
}

# Headers are included by folder, and a header declares what the file of its name defines.
include_names() {
    awk '
        FNR == 1 { folder = FILENAME; sub(/[^\/]*$/, "", folder) }
        /^#include "/ {
            split($0, part, "\"")
            if (!("src/" part[2] in file) && folder part[2] in file) print FILENAME ":" FNR ": write " substr(folder part[2], 5)
        }
        BEGIN { for (i = 1; i < ARGC; i++) file[ARGV[i]] }
    ' "${sources[@]}" "${headers[@]}"
}

header_names() {
    awk '
        NR == FNR { if ($2 != "U") definer[$3] = $1; next }
        /^extern / {
            name = FILENAME; sub(/^src\//, "", name); sub(/\.h$/, "", name)
            declared = $0
            sub(/[(;[].*/, "", declared); sub(/.*[^A-Za-z0-9_]/, "", declared)
            if (!(declared in definer)) print FILENAME ":" FNR ": " declared " is defined nowhere"
            else if (definer[declared] != name) print FILENAME ":" FNR ": " declared " is defined in src/" definer[declared] ".c"
        }
    ' <(symbols) "${headers[@]}"
}

libraries() {
    grep -n '^#include <curl/' "${sources[@]}" "${headers[@]}" | grep -vE '^src/http/(http|transfer)\.[ch]:'
    grep -n '^#include <json-c/' "${sources[@]}" "${headers[@]}" | grep -v '^src/http/json\.c:'
}

registry() {
    grep -nE 'strcmp\((provider|[a-z>.-]*provider->name)\b' "${sources[@]}"
}

# From cs_sql_enter() to cs_sql_leave() the current user is the owner of the extension, so what is done there for the caller
# uses the role that cs_sql_enter() returned, and statements do not mention the current user. What may be called there from
# elsewhere does not ask for the current user at all.
current_user() {
    grep -nE '^[^*]*GetUserId\(\)' "${sources[@]}" |
        grep -vE '^src/(api/.*|provider/validator|store/watch_make|worker/launcher)\.c:' |
        sed 's/$/: take the role as an argument/'
    awk '
        FNR == 1 || /^}/             { inside = 0 }
        /cs_sql_enter[a-z_]*\(/      { inside = 1 }
        inside && /GetUserId\(\)/    { print FILENAME ":" FNR ": GetUserId() is the owner of the extension here" }
        /cs_sql_leave\(/             { inside = 0 }
        /static CsStatement /        { statement = 1 }
        statement && /(current|session)_user|current_role/ { print FILENAME ":" FNR ": the current user is the owner of the extension here" }
        /;$/                         { statement = 0 }
    ' "${sources[@]}"
}

declarations() {
    grep -nE '^extern ' "${sources[@]}"
}

file_sizes() {
    wc -l "${sources[@]}" "${headers[@]}" | awk -v max="$max_file" '$2 != "total" && $1 > max { print $2 ": " $1 " lines, more than " max }'
}

function_sizes() {
    awk -v max="$max_function" '
        /^\{/ { start = FNR }
        /^\}/ { if (start && FNR - start - 1 > max) print FILENAME ":" start ": " FNR - start - 1 " lines, more than " max; start = 0 }
    ' "${sources[@]}"
}

# Only one place interprets SQLSTATEs.
subtransactions() {
    grep -nE '\b(BeginInternalSubTransaction|ERRCODE_TO_CATEGORY) *\(' "${sources[@]}" | grep -v '^src/base/try\.c:'
}

# Names become part of a statement in one place, which quotes them, and definitions that the server prints are not taken
# apart. The SQL of a watch is put together with its expressions, and runs as the owner of the watch.
statements() {
    grep -nE '\bpg_get_[a-z]+def\b' "${sources[@]}" | sed 's/$/: build it from values/'
    grep -nE '\bSPI_(exec|prepare)[a-z_]*\(' "${sources[@]}" |
        grep -vE '^src/(base/sql|store/(source|source_row|source_page|schedule|watch_store)|api/report_data)\.c:'
    grep -nE '\b(psprintf|appendStringInfo|snprintf)\(.*"(CREATE|ALTER|DROP|INSERT INTO|UPDATE|DELETE FROM) ' src/{base,store,capture}/*.c |
        sed 's/$/: use base\/statement.c/'
}

# ---------------------------------------------------------------------------
# Symbols
# ---------------------------------------------------------------------------

sql_symbols() {
    sed -nE "s/.*'MODULE_PATHNAME', *'([^']+)'.*/\1/p" "${scripts[@]}" | sort -u
}

# Print the entry points of background workers, which are looked up by name.
worker_symbols() {
    grep -ohE '"contactsync_[a-z_]+_main"' "${sources[@]}" | tr -d '"' | sort -u
}

# Only symbols that SQL calls or the server looks up are exported.
exported() {
    diff <({ sql_symbols; sql_symbols | sed 's/^/pg_finfo_/'; worker_symbols; printf '%s\n' _PG_init Pg_magic_func; } | sort) \
        <(nm -D --defined-only contactsync.so | awk '{ print $3 }' | sort) |
        sed -n 's/^</not exported:/p; s/^>/exported, but not called from outside:/p'
}

prefixed() {
    nm -o --extern-only --defined-only "${sources[@]/%.c/.o}" | grep -vwF -f <(sql_symbols; worker_symbols) |
        grep -vE ' (cs_[a-z0-9_]+|pg_finfo_[a-z0-9_]+|_PG_init|Pg_magic_func)$'
}

# ---------------------------------------------------------------------------
# Version, SQL, text
# ---------------------------------------------------------------------------

# A library without its libraries loads into no server, so the build stops.
build_stops() {
    local variable
    for variable in PKG_CONFIG PG_CONFIG; do
        make -n "$variable=/nonexistent" all 2>&1 | grep -q '"/nonexistent" does not find' ||
            echo "make does not stop if $variable is wrong"
    done
}

versions() {
    local version semver
    version=$(make -s print-EXTVERSION) semver=$(make -s print-SEMVERSION)
    [ -e "sql/contactsync--$version.sql" ] || echo "there is no sql/contactsync--$version.sql"
    [ "$(grep -cF "\"version\": \"$semver\"" META.json)" -eq 2 ] || echo "META.json does not contain version $semver twice"
    grep -qF "\"sql/contactsync--$version.sql\"" META.json || echo "META.json does not name sql/contactsync--$version.sql"
    grep -m 1 '^## ' CHANGELOG.md | grep -qF "[$version]" || echo "the first version in CHANGELOG.md is not $version"
    [[ $(head -n 1 debian/changelog) == "contactsync ($version-"* ]] || echo "the first version in debian/changelog is not $version"
    diff debian/control <(sed 's/PGVERSION/17/' debian/control.in) >/dev/null || echo "debian/control is not debian/control.in for PostgreSQL 17"
    updates
}

# Every version in CHANGELOG.md can be updated to the next one, and the oldest can be installed.
updates() {
    local newer='' older
    while read -r older; do
        [ -z "$newer" ] || [ -e "sql/contactsync--$older--$newer.sql" ] || echo "there is no sql/contactsync--$older--$newer.sql"
        newer=$older
    done < <(sed -nE 's/^## \[([0-9.]+)\].*/\1/p' CHANGELOG.md)
    [ -e "sql/contactsync--$newer.sql" ] || echo "there is no sql/contactsync--$newer.sql"
}

# An existing object could have been created by an attacker.
sql_creates() {
    grep -nE 'OR REPLACE|IF NOT EXISTS' "${scripts[@]}"
    grep -LE '^\\echo Use "(CREATE EXTENSION|ALTER EXTENSION contactsync UPDATE")' "${scripts[@]}" | sed 's/$/: does not stop psql from running it/'
}

sql_comments() {
    awk '
        match($0, /^CREATE (FUNCTION|PROCEDURE|TABLE|VIEW|TYPE|DOMAIN|FOREIGN DATA WRAPPER) [a-z_.@]+/) {
            made[substr($0, 8, RLENGTH - 7)] = FILENAME ":" FNR }
        match($0, /^COMMENT ON (FUNCTION|PROCEDURE|TABLE|VIEW|TYPE|DOMAIN|FOREIGN DATA WRAPPER) [a-z_.@]+/) {
            delete made[substr($0, 12, RLENGTH - 11)] }
        END { for (object in made) print made[object] ": no COMMENT ON " object }
    ' "${scripts[@]}"
}

# Operators and functions in views, defaults and checks are resolved when the script runs.
sql_pinned() {
    local script
    for script in "${scripts[@]}"; do
        grep -v -e '^--' -e '^/\*' -e '^\\' -e '^$' "$script" | head -n 1 | grep -qxF 'SET LOCAL search_path = pg_catalog, pg_temp;' ||
            echo "$script: does not begin with SET LOCAL search_path = pg_catalog, pg_temp"
    done
}

# A function in SQL or PL/pgSQL resolves its names when it is called, with the search_path of the caller.
sql_search_path() {
    awk 'BEGIN { RS = ";"; IGNORECASE = 1 }
        /CREATE (FUNCTION|PROCEDURE)/ && /LANGUAGE (sql|plpgsql)/ && !/SET search_path|BEGIN ATOMIC/ {
            match($0, /CREATE (FUNCTION|PROCEDURE) [a-z_.@]+/); print FILENAME ": no search_path in " substr($0, RSTART, RLENGTH) }
    ' "${scripts[@]}"
}

# docs/providers.md explains every option, and the tests that it names exist.
options_documented() {
    grep -ohE '\.name = "[a-z_]+",\.place' src/provider/*.c src/provider/*/*.c | cut -d'"' -f2 | sort -u |
        while read -r option; do
            grep -qE "^\| [^|]*\`$option\`" docs/providers.md || echo "docs/providers.md does not explain the option $option"
        done
}

# Definitions fit the schema, the schema has what the compiler reads, and the reference is generated from it.
definitions_agree() {
    python3 test/definitions.py --check
}

# README.md names every function and every view.
reference_complete() {
    local name
    for name in $(sed -nE 's/.*DefineCustom[A-Za-z]+Variable\("(contactsync\.[a-z_]+)".*/\1/p' src/base/settings.c); do
        grep -qF "\`$name\`" docs/reference.md || echo "docs/reference.md: nothing about the setting $name"
    done
    # arguments begin a line, or follow a parenthesis or a comma
    for name in $(sed -nE '/^CREATE (FUNCTION|PROCEDURE) @extschema@\.contactsync_([a-eg-z]|fi|fo)/,/^(RETURNS|LANGUAGE|AS)/p' "${scripts[@]}" |
        sed -E 's/^CREATE [A-Z]+ @extschema@\.//; /^(RETURNS|LANGUAGE|AS)/d' | grep -oE '(^|[(,])[[:space:]]*(VARIADIC )?"?[a-z_]+"?[[:space:]]+["a-z]|^contactsync_[a-z_]+' |
        grep -oE '[a-z_]{2,}"?[[:space:]]|contactsync_[a-z_]+' | tr -d '"[:blank:]' | sort -u); do
        grep -qE "[\`(, ]\"?$name\"?[\`(), ]" docs/reference.md || echo "docs/reference.md: nothing about $name"
    done
}
sql_documented() {
    local name
    for name in $(sed -nE 's/^CREATE (FUNCTION|PROCEDURE|VIEW) (@extschema@|contactsync)\.([a-z_]+)[ (].*/\1\3/p' "${scripts[@]}" |
        sed -nE 's/^VIEW//p; s/^[A-Z]+(contactsync_)/\1/p' | grep -vx contactsync_fdw_validator | sort -u); do
        grep -qE "(\`|\.)$name\`" README.md || echo "README.md: nothing about $name"
    done
}

tests_exist() {
    local name
    for name in $(grep -ohE '`(sql|t|specs)/[0-9a-z_]+`' docs/providers.md docs/consent.md docs/security.md | tr -d '`' | sort -u); do
        compgen -G "test/$name.*" >/dev/null || echo "docs: there is no test/$name"
    done
    for name in $(grep -oE '`test/[a-z/_]+\.[a-z]+`' docs/providers.md | tr -d '`' | sort -u); do
        [ -e "$name" ] || echo "docs/providers.md: there is no $name"
    done
}

# A mutation whose piece is not in the source any more breaks nothing: change it with the source.
mutations_fit() {
    python3 test/mutations/mutate.py --check
}

test_numbers() {
    printf '%s\n' test/t/*.pl | cut -d_ -f1 | uniq -d | sed 's/$/: several tests have this number/'
}

# The checks that docs/consent.md and docs/security.md quote exist: `t/NAME` "title", "another title".
titles_exist() {
    local name title
    grep -ohE '`(sql|t)/[0-9a-z_]+`( "[^"]+",?)+' docs/consent.md docs/security.md | while IFS= read -r quote; do
        name=$(cut -d '`' -f 2 <<<"$quote")
        grep -oE '"[^"]+"' <<<"$quote" | tr -d '"' | while IFS= read -r title; do
            cat "test/$name".* | tr '\n' ' ' | sed 's/ -- / /g' | grep -qF "$title" || echo "docs: test/$name has no \"$title\""
        done
    done
}

# The files and functions that docs/architecture.md names exist.
functions_exist() {
    local file name
    grep -oE '`[a-z_/]+\.c(:[a-z_]+\(\))?`' docs/architecture.md | tr -d '`()' | sort -u | while IFS=: read -r file name; do
        [ -e "src/$file" ] || [ -e "$file" ] || { echo "docs/architecture.md: there is no src/$file"; continue; }
        [ -z "$name" ] || grep -qE "^$name\(" "src/$file" || echo "docs/architecture.md: there is no $name() in src/$file"
    done
    sed '/^## Old and new names/,$d' docs/architecture.md | grep -oE '`[a-z_]+\(\)`' | tr -d '`()' | sort -u | while read -r name; do
        grep -qE "^$name\(" "${sources[@]}" || grep -qE "CREATE (FUNCTION|PROCEDURE) ([a-z@]+\.)?$name\(" "${scripts[@]}" ||
            echo "docs/architecture.md: there is no $name()"
    done
}

marks() {
    grep -rnIE '\b(TODO|FIXME|XXX|HACK)\b' src sql test docs docker debian README.md Makefile 2>/dev/null | grep -v '^test/lint\.sh:'
}

whitespace() {
    grep -rnIE --exclude-dir=corpus '[[:space:]]+$' src sql test docs docker debian README.md Makefile ./*.md META.json contactsync.control 2>/dev/null
}

shell() {
    local script scripts=(test/*.sh .ci/run docker/*.sh debian/tests/installcheck)
    for script in "${scripts[@]}"; do bash -n "$script"; done
    ! command -v shellcheck >/dev/null || shellcheck -x -S warning "${scripts[@]}"
}

format() {
    test/indent.sh --check | sed "s/$/: make indent/"
}

# cppcheck reads the server's headers, but does not know built-in functions of compilers: without these definitions it assumes
# that ereport(ERROR) returns, and that a macro that only examines a type dereferences a null pointer.
static_analysis() {
    local server
    server=$(make -s print-includedir_server)
    cppcheck --quiet -j 2 --std=c11 --max-configs=1 --enable=warning,performance,portability --inline-suppr \
        -Isrc -I"$server" --suppress="*:$server/*" --suppress=missingInclude --suppress=normalCheckLevelMaxBranches -D__x86_64__ \
        -D'__builtin_constant_p(x)=1' -D'__builtin_unreachable()=exit(1)' -D'__builtin_types_compatible_p(a,b)=1' \
        -D'offsetof(type,member)=0' --template='{file}:{line}: {message} ({id})' "${sources[@]}"
}

# ---------------------------------------------------------------------------

requirements=$(requirements)
check layering "files include and call only files in their folder or below"
check circles "files of a folder require each other in one direction"
check include_names "headers are included by folder"
check header_names "a header declares what the file of its name defines"
check libraries "only the files that hide libcurl and json-c include them"
check registry "only the registry distinguishes providers by name"
check current_user "code that runs as the owner of the extension does not use the current user"
check subtransactions "only cs_try() starts subtransactions"
check statements "names are quoted in one place, and no definition is taken apart"
check declarations "extern functions are declared in headers"
check file_sizes "no file is longer than $max_file lines"
check function_sizes "no function is longer than $max_function lines"
check exported "only functions that SQL or the server calls are exported"
check prefixed "extern symbols begin with cs_"
check build_stops "make stops without pkg-config or pg_config"
check versions "all versions equal that of the control file"
check options_documented "every option is explained in docs/providers.md"
check sql_creates "the SQL scripts create only new objects"
check sql_comments "all objects in the SQL scripts have comments"
check sql_pinned "the SQL scripts resolve names only in pg_catalog"
check sql_search_path "functions do not depend on the search_path of the caller"
check definitions_agree "definitions, their schema, their compiler and their reference agree"
check sql_documented "README.md names all functions and views"
check reference_complete "docs/reference.md names all functions, their arguments, and all settings"
check tests_exist "the tests that docs/providers.md, docs/consent.md and docs/security.md name exist"
check titles_exist "the checks that docs/consent.md and docs/security.md quote exist"
check test_numbers "the numbers of TAP tests are unique"
check mutations_fit "each piece of test/mutations/mutations.toml is in the source exactly once, and its tests exist"
check functions_exist "the functions that docs/architecture.md names exist"
check marks "there are no marks of unfinished work"
check whitespace "no line ends with white space"
check shell "shell scripts pass shellcheck"
if command -v pg_bsd_indent >/dev/null; then check format "C is formatted"; else skip "pg_bsd_indent"; fi
if command -v cppcheck >/dev/null; then check static_analysis "cppcheck"; else skip "cppcheck"; fi

exit $status
