#!/usr/bin/env bash
# Writes a summary as the comment of costax on a pull request; a later run changes that comment, and adds none.
#
# GH_TOKEN, GITHUB_REPOSITORY, NUMBER: of the pull request. SUMMARY: the path of the summary.
set -euo pipefail

mark='<!-- costax -->'
# GitHub takes comments of up to 65,536 characters.
body=$(printf '%s\n%s\n' "$mark" "$(head -c 60000 "$SUMMARY")")
comments="repos/$GITHUB_REPOSITORY/issues/$NUMBER/comments"
id=$(gh api --paginate "$comments" --jq "map(select(.body | startswith(\"$mark\"))) | .[0].id // empty" | head -n 1)
if [ -n "$id" ]; then
    gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$id" --raw-field body="$body"
else
    gh api --silent --method POST "$comments" --raw-field body="$body"
fi
