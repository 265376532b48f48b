#!/usr/bin/env bash
# Compares what programs cost at a commit and in the working tree, and writes a summary in Markdown.
#
# BASE: the commit before. TARGETS, FAIL_ON: one a line. COMPILE_FOR: separated by spaces; may be empty. INSTALL: a
# command for both versions; may be empty. FOLDER: for records and the summary. Exit code 1: a threshold was crossed, or
# a program of the working tree could not be counted.
set -uo pipefail
# Lines of progress are no part of an error.
export COSTAX_QUIET=1

mkdir -p "$FOLDER"
FOLDER=$(cd "$FOLDER" && pwd)
summary="$FOLDER/summary.md"
status=0
root=$(git rev-parse --show-toplevel) || exit 2
inside=$(git rev-parse --show-prefix)
before="$FOLDER/before"

# The history of a shallow checkout lacks the commit before.
git cat-file -e "$BASE^{commit}" 2> /dev/null || git fetch --quiet --depth 1 origin "$BASE" || exit 2
git worktree add --quiet --force --detach "$before" "$BASE" || exit 2
trap 'git -C "$root" worktree remove --force "$before"' EXIT

thresholds=()
while IFS= read -r line; do
    [ -n "${line// /}" ] && thresholds+=(--fail-on "$line")
done <<< "${FAIL_ON:-}"

# count FOLDER RECORD MACHINE TARGET...: write the record of a program; print the error where that fails.
count() {
    local folder=$1 record=$2 machine=$3
    shift 3
    if [ "$machine" = jaxpr ]; then
        (cd "$folder" && costax analyze "$@" --save "$record" 2>&1 > /dev/null)
    else
        (cd "$folder" && costax compare "$@" --target "$machine" --save "$record" 2>&1 > /dev/null)
    fi
}

quoted() { printf '\n```text\n%s\n```\n' "$(tail -n 20 <<< "$1")"; }

# Versions may import different packages: all records of one are written before those of the other.
number=0
for side in before after; do
    folder=$root/$inside
    [ "$side" = before ] && folder=$before/$inside
    if [ -n "${INSTALL:-}" ]; then
        (cd "$folder" && bash -c "$INSTALL") || { [ "$side" = after ] && exit 2; }
    fi
    number=0
    while IFS= read -r target; do
        [ -n "${target// /}" ] || continue
        for machine in ${COMPILE_FOR:-jaxpr}; do
            number=$((number + 1))
            # The options of a target are words; quotes as a shell reads them.
            mapfile -t words < <(xargs -n 1 printf '%s\n' <<< "$target")
            count "$folder" "$FOLDER/$number-$side.json" "$machine" "${words[@]}" > "$FOLDER/$number-$side.log" ||
                rm -f "$FOLDER/$number-$side.json"
        done
    done <<< "$TARGETS"
done

: > "$summary"
number=0
while IFS= read -r target; do
    [ -n "${target// /}" ] || continue
    for machine in ${COMPILE_FOR:-jaxpr}; do
        number=$((number + 1))
        old="$FOLDER/$number-before.json" new="$FOLDER/$number-after.json"
        {
            printf '## `%s`' "$target"
            [ "$machine" = jaxpr ] || printf ', compiled for %s' "$machine"
            printf '\n\n'
            if [ ! -f "$new" ]; then
                printf ':x: It cannot be counted:\n'
                quoted "$(cat "$FOLDER/$number-after.log")"
                status=1
            elif [ ! -f "$old" ]; then
                printf 'New: there is no count of it before.\n'
                costax show "$new" 2>&1 | head -n 1
            else
                costax diff "$old" "$new" ${thresholds[@]+"${thresholds[@]}"} --markdown \
                    > "$FOLDER/$number.md" 2> "$FOLDER/$number.log" || status=1
                # The summary names a threshold that is crossed; other errors leave none.
                if [ -s "$FOLDER/$number.md" ]; then cat "$FOLDER/$number.md"; else quoted "$(cat "$FOLDER/$number.log")"; fi
            fi
            printf '\n'
        } >> "$summary"
    done
done <<< "$TARGETS"
cat "$summary"
[ -z "${GITHUB_STEP_SUMMARY:-}" ] || cat "$summary" >> "$GITHUB_STEP_SUMMARY"
exit "$status"
