#!/bin/bash
# record.sh scenarios|corpus [NAME...]: records anew what Docker Engine and Docker Compose make of the scenarios of
# runner-stub/tests/scenarios, or Docker Compose of the cases of formats/compose/tests/corpus; of all when none is named.
#
# Runs them in the peers' root (ci/peers.sh --docker). Needs root. Look at the difference that Git shows before it is committed.
set -euo pipefail
cd "$(dirname "$0")/.."
usage="usage: ${0##*/} scenarios|corpus [NAME...]"
what=${1:?$usage}
shift
case $what in
scenarios) folder=runner-stub/tests/scenarios; command=(python3 record.py) ;;
corpus) folder=formats/compose/tests/corpus; command=(sh record.sh) ;;
*) echo "$usage" >&2; exit 2 ;;
esac
peers=$(ci/peers.sh --docker)
inside=$(mktemp -d "$peers/root/tmp/record-XXXXXX")
trap 'rm -rf "$inside"' EXIT
cp -a "$folder/." "$inside/"
"$peers/enter" root sh -ec 'cd "$1"; shift; exec "$@"' sh "${inside#"$peers/root"}" "${command[@]}" "$@"
case $what in
scenarios) cp "$inside/docker.json" "$folder/" ;;
corpus) for record in "$inside"/*/expected.json; do cp "$record" "$folder/$(basename "$(dirname "$record")")/"; done ;;
esac
