#!/bin/sh
# Runs a command while nobody else does: a lock with an expiry, by conditional writes.
#
#     sh examples/lock.sh NAME SECONDS COMMAND [ARGUMENT...]
#
# Takes the lock by creating its key, which only one can do (If-None-Match: *), and waits while somebody else has it. After
# SECONDS it is free again, whatever has become of the holder; so a command must end before that, or give the lock more time:
#
#     curl -sS -f -i -X PUT -H "If-Match: $LOCK_ETAG" -H 'Content-Type: application/json' -d "$LOCK_VALUE" "$LOCK_URL?ttl=60"
#
# with what it finds in its environment. If-Match makes sure that the lock is still its own (else 412), and the ETag of the
# answer is the one for the next time. At the end the lock is given back if its value is still the one that was written here.
# Ends with the status of the command, with 75 when the lock was not its own any more at the end, and with 1 or 2 when there was
# no lock to be had.
#
# GKV_URL is a proxy or node, by default http://localhost:8080.
set -u
if [ $# -lt 3 ]; then
    echo "usage: lock.sh NAME SECONDS COMMAND [ARGUMENT...]" >&2
    exit 2
fi
name=$(printf %s "$1" | od -An -v -tx1 | tr -d ' \n' | sed 's/../%&/g')
seconds=$2
shift 2

head=$(mktemp) || exit 1
trap 'rm -f "$head"' EXIT
LOCK_URL=${GKV_URL:-http://localhost:8080}/v1/kv/lock/$name
LOCK_VALUE="\"$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')\""

etag() {
    tr -d '\r' <"$head" | sed -n 's/^[Ee][Tt]ag: //p'
}

is_mine() {
    [ "$(curl -sS -D "$head" "$LOCK_URL")" = "$LOCK_VALUE" ]
}

while :; do
    status=$(curl -sS -o /dev/null -D "$head" -w '%{http_code}' -X PUT -H 'If-None-Match: *' \
        -H 'Content-Type: application/json' -d "$LOCK_VALUE" "$LOCK_URL?ttl=$seconds")
    [ $? = 7 ] && exit 1 # nobody listens there, as curl has said
    [ "$status" = 201 ] && break
    case $status in
    4*) [ "$status" = 412 ] || { echo "lock.sh: the lock cannot be taken: $status" >&2; exit 1; } ;;
    esac
    # Somebody has it. After an answer that left the outcome open (indeterminate) that may be we.
    is_mine && break
    sleep 0.1
done
LOCK_ETAG=$(etag)
export LOCK_URL LOCK_VALUE LOCK_ETAG

"$@"
result=$?

mine=$LOCK_ETAG
for _ in 1 2 3 4 5; do
    status=$(curl -sS -o /dev/null -w '%{http_code}' -X DELETE -H "If-Match: $mine" "$LOCK_URL")
    [ "$status" = 204 ] && exit "$result"
    if [ "$status" != 412 ]; then
        echo "lock.sh: the lock cannot be given back ($status), and is free when it expires" >&2
        exit "$result"
    fi
    # It has another version: it was given more time, or is another's by now.
    is_mine || break
    mine=$(etag)
done
echo "lock.sh: the lock had expired before the command ended" >&2
exit 75
