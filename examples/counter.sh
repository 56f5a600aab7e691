#!/bin/sh
# Adds to a counter and prints the sum; any number of clients may do that at once, and none of their additions is lost.
#
#     sh examples/counter.sh NAME [HOW_MUCH]
#
# HOW_MUCH is a whole number, by default 1; with a - it is taken away.
# An addition that ends with "indeterminate" may have been counted, now or later: whoever repeats it may count twice.
#
# GKV_URL is a proxy or node, by default http://localhost:8080.
set -u
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: counter.sh NAME [HOW_MUCH]" >&2
    exit 2
fi
encode() {
    printf %s "$1" | od -An -v -tx1 | tr -d ' \n' | sed 's/../%&/g'
}
answer=$(curl -sS -w '\n%{http_code}' -X POST \
    "${GKV_URL:-http://localhost:8080}/v1/kv/counter/$(encode "$1")?add=$(encode "${2:-1}")") || exit 1
if [ "${answer##*
}" = 200 ]; then
    echo "${answer%
*}"
else
    echo "counter.sh: $answer" >&2
    exit 1
fi
