#!/usr/bin/env bash
# Build contactsync and run its tests on a private copy of the installed PostgreSQL, in a temporary directory.
#
# usage: test/run.sh [OPTION...] [NAME...]
#
#   NAME          a group (build, lint, sandbox, instructions, regress, isolation, tap, asan, encoding, consent, chaos, fuzz,
#                 mutate), or the beginning of the name of a test in regress, isolation or tap, as in: test/run.sh email 010.
#                 The group instructions counts what a row costs (test/instructions/count.py); asan and encoding run regress and
#                 some tests of the worker with --asan and with --encoding EUC_JP; consent runs some histories of
#                 test/fuzz/consent.sh; chaos, which is run only if it is named, is a short form of make chaos; fuzz runs each
#                 target of test/fuzz/coverage.sh for a moment; mutate breaks the source in ten ways, as test/mutate.sh --day does
#   --accept      accept the output of the regression tests as their expected output, and the counted instructions as those
#                 that a row costs
#   --keep        keep the temporary directory with logs and data
#   --installed   test the extension installed for PG_CONFIG instead of building; same as 'make installcheck' as root
#   --encoding NAME
#                 run regress and the main tests of the worker, or those that are named, in databases of that encoding
#                 instead of UTF8, such as LATIN1, EUC_JP or SQL_ASCII
#   --asan, --valgrind, --coverage
#                 check the server's memory with either tool, or measure the line coverage
#
# Prints "N passed, N failed" at the end; the exit status is 1 if any test failed.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/prefix.sh"

usage() {
    sed -n '/^# usage/,/^$/{/^#/!d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

names=() accept=false keep=false installed=false encoding=UTF8 check=
while [ $# -gt 0 ]; do
    arg=$1
    shift
    case $arg in
        --encoding) encoding=${1:?"$(usage)"}; shift ;;
        --accept) accept=true ;;
        --keep) keep=true ;;
        --installed) installed=true ;;
        --asan | --valgrind | --coverage) check=${arg#--} ;;
        -h | --help) usage; exit ;;
        -*) usage >&2; exit 2 ;;
        *) names+=("$arg") ;;
    esac
done
[ "$encoding" = UTF8 ] || [ ${#names[@]} -gt 0 ] || names=(regress 010 020 040 060 07 09 101 104 110 120)

# ---------------------------------------------------------------------------
# Selection of tests
# ---------------------------------------------------------------------------

# Print the names of the selected files of a group: chosen GROUP FILE...
chosen() {
    local group=$1 file name want
    shift
    for file; do
        [ -e "$file" ] || continue
        name=${file##*/} name=${name%.*}
        [ ${#names[@]} -gt 0 ] || echo "$name"
        for want in "${names[@]}"; do
            [[ $want == "$group" || $name == "$want"* ]] && echo "$name" && break
        done
    done
}

# Return whether a group without names is selected.
wanted() {
    [ ${#names[@]} -eq 0 ] || [[ " ${names[*]} " == *" $1 "* ]]
}

mapfile -t regress < <(chosen regress "$top"/test/sql/*.sql)
mapfile -t isolation < <(chosen isolation "$top"/test/specs/*.spec)
# the one that takes longest begins first, so that the others run beside it
mapfile -t tap < <(chosen tap "$top"/test/t/121_day.pl; chosen tap "$top"/test/t/*.pl | grep -vx 121_day)

for want in "${names[@]}"; do
    case " build lint sandbox instructions regress isolation tap asan encoding consent chaos fuzz mutate : ${regress[*]} ${isolation[*]} ${tap[*]}" in
        *" $want "*:* | *:*" $want"*) ;;
        *) echo "there is no test called \"$want\"" >&2; exit 2 ;;
    esac
done

# ---------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------

passed=0 failed=0

# Run a command, show its output, and count its tests: step TITLE COMMAND...
step() {
    local log=$work/log/step status ok bad
    printf '\n=== %s, after %d s\n' "$1" $SECONDS
    # run it as a job with its own process group, so that a signal ends this script at once and the cleanup ends the job
    set -m
    (set -o pipefail; "${@:2}" </dev/null 2>&1 | tee "$log") &
    set +m
    wait $!
    status=$?
    read -r ok bad < <(count <"$log")
    # a command that counts no tests is one test, and a command that fails has at least one failed test
    [ $status -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    [ $((ok + bad)) -gt 0 ] || ok=1
    passed=$((passed + ok)) failed=$((failed + bad))
    return $status
}

# Count passed and failed tests from the summaries of unittest and prove, and from the lines of pg_regress and TAP.
count() {
    awk '
        /^Ran [0-9]+ tests? in /         { ok += $2 }
        /^FAILED \(/                     { for (i = split($0, part, /[(), =]+/); i > 1; i--)
                                               if (part[i - 1] ~ /^(failures|errors)$/) { bad += part[i]; ok -= part[i] } }
        /^Files=[0-9]+, Tests=[0-9]+,/   { ok += substr($2, 7) }
        /^test\/.*\(Wstat: .* Failed: /  { n = $NF + 0; bad += n ? n : 1; ok -= n }
        /^(test)? +[^ ]+ +\.\.\. ok/     { ok++ }
        /^(test)? +[^ ]+ +\.\.\. FAILED/ { bad++ }
        /^ok [0-9-]/                     { ok++ }
        /^not ok [0-9-]/                 { bad++ }
        END                              { print ok + 0, bad + 0 }'
}

in_tree() {
    as_server make --no-print-directory -s -C "$tree" PG_CONFIG="$PG_CONFIG" ENCODING="$encoding" "$@"
}

# Print the ends of those log files that exist.
show_logs() {
    local file
    for file; do
        [ ! -s "$file" ] || printf '\n--- the end of %s\n%s\n' "${file#"$tree"/}" "$(tail -n 40 "$file")"
    done
}

# Run pg_regress or pg_isolation_regress: regression REGRESS|ISOLATION NAME...
regression() {
    local name
    for name in "${@:2}"; do
        # pg_regress stops if an expected file does not exist
        [ -e "$tree/expected/$name.out" ] || as_server touch "$tree/expected/$name.out"
    done
    if ! step "${1,,}" in_tree installcheck REGRESS= ISOLATION= TAP_TESTS= "$1=${*:2}"; then
        [ ! -s "$tree/regression.diffs" ] || head -n 500 "$tree/regression.diffs"
        show_logs "$tree/log/postmaster.log"
    fi
    ! $accept || for name in "${@:2}"; do
        [ ! -e "$tree/results/$name.out" ] || cp "$tree/results/$name.out" "$top/expected/"
    done
}

# Count the instructions for a row; see count.py.
instructions() {
    local file=test/instructions/numbers.txt
    if $accept; then
        set -- --write "$tree/$file"
    fi
    as_server /usr/bin/python3 "$tree/test/instructions/count.py" --bindir "$bindir" --work "$work" "$@" || return
    ! $accept || cp "$tree/$file" "$top/$file"
}

tap() {
    local name
    step tap in_tree installcheck REGRESS= ISOLATION= PROVE_FLAGS='-j4 --timer' "TAP_TESTS=$(printf 'test/t/%s.pl ' "$@")" && return
    while read -r name; do
        show_logs "$tree"/tmp_check/log/{regress_log_,}"$name"*
    done < <(sed -n 's/^test\/t\/\(.*\)\.pl  *(Wstat.*/\1/p' "$work/log/step")
}

# Run a few histories of the long form at built-in providers, and at those of shipped definitions.
consent() {
    "$top/test/fuzz/consent.sh" --providers built-in --seed 2 --seeds 5 --jobs 2 &&
        "$top/test/fuzz/consent.sh" --providers defined --seed 101 --seeds 4 --jobs 2 --steps 25
}

# Run groups at the same time, as each of them waits a lot, and show what they print one after the other: side_by_side GROUP...
side_by_side() {
    local group status=0
    local -A pids
    for group; do
        "$group" >"$work/log/$group" 2>&1 &
        pids[$group]=$!
    done
    for group; do
        wait "${pids[$group]}" || status=1
        cat "$work/log/$group"
    done
    return $status
}

# Kill processes while providers fail, for a short time.
chaos() {
    "$top/test/fuzz/chaos.sh" --seed 2 --seconds 16 --cells 10
}

# Run the regression tests, and those of the worker that deliver, fail and crash, with the server's memory checked.
asan() {
    "$top/test/run.sh" --asan regress 010 020 040
}

# Run the regression tests, and those of the worker that deliver, crash, remember consent and forget, in another encoding:
# one with several bytes a character, which lacks characters of UTF-8, and in which the bytes of UTF-8 are no text.
encoding() {
    "$top/test/run.sh" --encoding EUC_JP regress 010 040 078 104
}

# Run each target with a few inputs, the same each time.
fuzz() {
    "$top/test/fuzz/coverage.sh" --runs 2000
}

# Return whether this machine has what a group needs; say so if it has not.
runnable() {
    [ "$1" != fuzz ] || "$top/test/fuzz/coverage.sh" --check
}

# Break the source in ten ways. This changes and installs the tree, so it comes last.
mutate() {
    local tested=
    [ ${#names[@]} -gt 0 ] || tested=--tested
    as_server /usr/bin/python3 "$tree/test/mutations/mutate.py" --tree "$tree" --pg-config "$PG_CONFIG" --day $tested
}

build() {
    local compiler
    # gcc and clang have different warnings; build in another directory as packagers do
    for compiler in gcc clang; do
        ! wanted build || [ -n "$check" ] || ! command -v $compiler >/dev/null ||
            step "build with $compiler in another directory" in_tree -C "$(as_server mktemp -d)" -f "$tree/Makefile" -j2 \
                CC="$compiler" CFLAGS="$strict_cflags" all
    done
    step "build" in_tree -j2 install
}

# ---------------------------------------------------------------------------
# Memory checks and coverage
# ---------------------------------------------------------------------------

prepare_check() {
    case $check in
        asan)
            export PG_TEST_TIMEOUT_DEFAULT=600 PGCTLTIMEOUT=600
            private_sanitizers
            ;;
        valgrind)
            export PG_TEST_TIMEOUT_DEFAULT=900 PGCTLTIMEOUT=900
            private_wrap "" valgrind --quiet --suppressions="$tree/test/valgrind.supp" --error-markers=begin,end \
                --log-file="$work/log/report.%p"
            ;;
        coverage) export COPT="--coverage -O0" ;;
    esac
}

finish_check() {
    case $check in
        asan | valgrind) step "reports of $check" no_reports ;;
        coverage) (cd "$tree" && as_server gcov -n src/*/*.gcda src/*/*/*.gcda 2>/dev/null) | coverage_table ;;
    esac
}

# Print the reports of the sanitizer, and those of valgrind whose stack contains a function of the extension: uninitialized
# padding in the server itself is not our concern.
no_reports() {
    local files
    files=$(find "$top/src" -name '*.c' -printf '|%f')
    ! awk -v ours="[(](${files#|}):[0-9]" -v check="$check" '
        check == "asan" { print; next }
        / begin$/       { block = ""; hit = 0 }
                        { block = block $0 "\n"; hit = hit || $0 ~ ours }
        / end$/         { if (hit) printf "%s", block }
    ' /dev/null "$work"/log/report* 2>/dev/null | grep .
}

coverage_table() {
    awk -F"[':% ]+" '
        /^File/              { file = $2 }
        /^Lines executed:/ && file ~ /^src\/.*\.c$/ {
            printf "%6.1f %%  %s\n", $3, file
            lines += $5; run += $3 * $5 / 100
            file = "" }
        END { if (lines) printf "%6.1f %%  of %d lines\n", 100 * run / lines, lines }'
}

# ---------------------------------------------------------------------------

"$top/test/setup.sh" tests || exit
config=${PG_CONFIG:-pg_config}
private_dir
private_tree
if $installed; then
    PG_CONFIG=$config
else
    private_postgres
    prepare_check
    if build; then
        wanted lint && [ -z "$check" ] && step "lint" in_tree lint
    else
        regress=() isolation=() tap=()
    fi
    wanted sandbox && [ -z "$check" ] && step "sandbox" as_server env -C "$tree" /usr/bin/python3 -m unittest discover -s test/sandbox
    wanted sandbox && [ -z "$check" ] && step "rules of consent" as_server env -C "$tree" /usr/bin/python3 -m unittest discover -s test/fuzz
fi
! wanted instructions || [ -n "$check" ] || $installed || step "instructions for a row" instructions
[ ${#regress[@]} -eq 0 ] || regression REGRESS "${regress[@]}"
[ ${#isolation[@]} -eq 0 ] || regression ISOLATION "${isolation[@]}"
[ ${#tap[@]} -eq 0 ] || tap "${tap[@]}"
finish_check
groups=()
for group in asan encoding consent fuzz; do
    ! wanted $group || $installed || [ -n "$check" ] || ! runnable $group || groups+=("$group")
done
[ ${#groups[@]} -eq 0 ] || PG_CONFIG=$config step "${groups[*]}" side_by_side "${groups[@]}"
# chaos finds what is not corrected yet, so it is run only by its name
[[ " ${names[*]} " != *" chaos "* ]] || $installed || [ -n "$check" ] || PG_CONFIG=$config step chaos chaos
! wanted mutate || $installed || [ -n "$check" ] || step mutate mutate
if $keep; then
    trap - EXIT
    printf '\nkeeping %s\n' "$work"
fi

printf '\n%d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ]
