#!/bin/sh
# Records what Docker Compose makes of each case: `record.sh [CASE…]`, run where `docker compose` works (no daemon needed): by `ci/record.sh corpus`.
# Paths are made relative to the case, so that it does not matter where the corpus lies.
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- */
for case in "$@"; do
    case=${case%/}
    (
        cd "$case"
        env=$( [ -f process.env ] && cat process.env || true )
        IFS='
'
        # shellcheck disable=SC2086 # one word a line
        env -i PATH="$PATH" HOME=/home/dev $env docker compose config --format json > expected.json 2> stderr || {
            echo "$case: refused: $(tail -n 1 stderr)" >&2
            rm -f expected.json
        }
        [ ! -f expected.json ] || sed -i -e "s|\"$PWD/|\"./|" -e "s|\"$PWD\"|\".\"|" -e "s|\"$(dirname "$PWD")/|\"../|" expected.json
        rm -f stderr
    )
done
