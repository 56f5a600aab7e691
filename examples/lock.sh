#!/bin/sh
# Runs a command while nobody else does: a lock with an expiry, by conditional writes.
#
#     sh examples/lock.sh NAME SECONDS COMMAND [ARGUMENT...]
#
# Takes the lock by creating its key, which only one can do (If-None-Match: *), and waits while somebody else has it. After
# SECONDS it is free again, whatever has become of the holder; so a command must end before that, or give the lock more time with
# POST /v1/kv/lock/NAME?touch=SECONDS. Gives it back by deleting the version that it has written, and no other (If-Match).
# Ends with the status of the command, or with 75 when the lock was not its own any more at the end.
#
# GKV_URL is a proxy or node, by default http://localhost:8080.
set -u
url=${GKV_URL:-http://localhost:8080}/v1/kv/lock/$1
seconds=$2
shift 2

head=$(mktemp) || exit 1
trap 'rm -f "$head"' EXIT
me=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')

etag() {
    tr -d '\r' <"$head" | sed -n 's/^[Ee][Tt]ag: //p'
}

while :; do
    status=$(curl -s -o /dev/null -D "$head" -w '%{http_code}' -X PUT -H 'If-None-Match: *' \
        -H 'Content-Type: application/json' -d "\"$me\"" "$url?ttl=$seconds")
    [ "$status" = 201 ] && break
    case $status in
    4*) [ "$status" = 412 ] || { echo "lock.sh: the lock cannot be taken: $status" >&2; exit 1; } ;;
    esac
    # Somebody has it. After an answer that left the outcome open (indeterminate) that may be we.
    [ "$(curl -s -D "$head" "$url")" = "\"$me\"" ] && break
    sleep 0.1
done
mine=$(etag)

"$@"
result=$?

status=$(curl -s -o /dev/null -w '%{http_code}' -X DELETE -H "If-Match: $mine" "$url")
if [ "$status" = 412 ]; then
    echo "lock.sh: the lock had expired before the command ended, or was given another expiry" >&2
    exit 75
fi
exit "$result"
