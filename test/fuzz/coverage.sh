#!/usr/bin/env bash
# Call functions of contactsync with inputs that libFuzzer makes up, guided by the code that they reach: see targets/fuzz.h.
#
# usage: test/fuzz/coverage.sh [OPTION...] [TARGET...]
#
#   --seconds N   how long to run each target (60)
#   --runs N      run each target with N inputs instead, which are the same each time
#   --seed N      what the inputs follow from (1)
#   --found DIR   keep the inputs that reach something new, or crash, in DIR/TARGET
#   --list        print the names of the targets
#   --check       say nothing if clang has libFuzzer, else that this is skipped
#
# Each target begins with the inputs in corpus/TARGET. Prints a line "ok - ..." or "not ok - ..." for each target, and for a
# crash the report and the input.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/../prefix.sh"

usage() {
    sed -n '/^# usage/,/^set/{/^#/!d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

all_targets() {
    sed -nE 's/^\t\{"([a-z_]+)", run_.*/\1/p' "$top"/test/fuzz/targets/*.c
}

# The file that has libFuzzer without its main().
runtime() {
    clang -print-file-name="libclang_rt.fuzzer_no_main-$(uname -m).a" 2>/dev/null
}

check() {
    [ ! -e "$(runtime)" ] || return 0
    echo "skipped: fuzz, because there is no clang with libFuzzer"
    return 1
}

seconds=60 runs=-1 seed=1 found='' targets=()
while [ $# -gt 0 ]; do
    arg=$1
    shift
    case $arg in
        --seconds) seconds=${1:?"$(usage)"}; shift ;;
        --runs) runs=${1:?"$(usage)"} seconds=0; shift ;;
        --seed) seed=${1:?"$(usage)"}; shift ;;
        --found) found=$(realpath -m "${1:?"$(usage)"}"); shift ;;
        --list) all_targets; exit ;;
        --check) check; exit ;;
        -h | --help) usage; exit ;;
        -*) usage >&2; exit 2 ;;
        *) all_targets | grep -qx "$arg" || { echo "there is no target \"$arg\"" >&2; exit 2; }; targets+=("$arg") ;;
    esac
done
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(all_targets)

in_tree() {
    as_server make --no-print-directory -s -C "$tree" PG_CONFIG="$PG_CONFIG" CC=clang "$@"
}

# Build contactsync with the targets and libFuzzer in it.
build() {
    as_server cp -r "$tree/test/fuzz/targets" "$tree/src/fuzz"
    COPT+=" -fsanitize=fuzzer-no-link"
    in_tree -j2 SHLIB_LINK="$(in_tree print-SHLIB_LINK) $(runtime) -Wl,-Bsymbolic-functions -lstdc++ -lm" install
}

# Run the server in single-user mode on statements, one a line: the process ends with libFuzzer, and is the only one that
# a crash ends.
single() {
    as_server "$bindir/postgres" --single -D "$work/data" -F -c log_min_messages=error postgres
}

# Print a text as an SQL literal.
literal() {
    printf "'%s'" "${1//\'/\'\'}"
}

# The words of the code are the words of the inputs.
dictionary() {
    grep -ohE '"[A-Za-z_][A-Za-z0-9_. -]{1,40}"' "$top"/src/{provider,http}/*.c "$top"/src/provider/*/*.c | sort -u
}

# Print the arguments of libFuzzer for a target.
arguments() {
    printf '%s\n' -seed="$seed" -runs="$runs" -max_total_time="$seconds" -max_len=4096 -timeout=300 -detect_leaks=0 \
        -print_final_stats=1 -dict="$work/dictionary" -artifact_prefix="$work/found/$1/" "$work/found/$1" "$tree/test/fuzz/corpus/$1"
}

# Run a target and print its line: run_target NUMBER TARGET
run_target() {
    local log=$work/log/$2 arg statement crash
    statement="SELECT fuzz($(literal "$2")"
    while read -r arg; do statement+=", $(literal "$arg")"; done < <(arguments "$2")
    as_server mkdir -p "$work/found/$2"
    single <<<"$statement)" >"$log" 2>&1
    cat "$work"/log/report* >>"$log" 2>/dev/null && rm -f "$work"/log/report*
    crash=$(find "$work/found/$2" -name 'crash-*' | head -n 1)
    if grep -q '^stat::number_of_executed_units' "$log" && [ -z "$crash" ]; then
        printf 'ok %d - %-20s %s\n' "$1" "$2" "$(summary "$log")"
        return
    fi
    printf 'not ok %d - %s\n' "$1" "$2"
    grep -vE '^#[0-9]|fuzzer::|/bin/postgres|libc_start' "$log" | tail -n 40
    [ -z "$crash" ] || { printf -- '--- the input\n'; cat "$crash"; echo; }
    return 1
}

# Print what libFuzzer says of a run.
summary() {
    awk '/^stat::number_of_executed_units/ { n = $2 } /^stat::average_exec_per_sec/ { rate = $2 }
        / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1) }
        END { printf "%9d inputs%s, %5d places reached, no crash", n, rate ? sprintf(" (%d a minute)", 60 * rate) : "", cov }' "$1"
}

"$top/test/setup.sh" fuzz || exit
check || exit
private_dir
private_tree
private_postgres
private_sanitizers clang
build || exit
as_server "$bindir/initdb" --pgdata="$work/data" --no-sync --encoding=UTF8 --no-locale --auth=trust >"$work/log/initdb" || exit
grep -v '^--' "$tree/test/fuzz/coverage.sql" | single >"$work/log/single" 2>&1
dictionary >"$work/dictionary"
as_server mkdir "$work/found"
status=0 number=0
for target in "${targets[@]}"; do
    run_target $((++number)) "$target" || status=1
done
[ -z "$found" ] || { mkdir -p "$found" && cp -r "$work/found/." "$found/"; }
exit $status
