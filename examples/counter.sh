#!/bin/sh
# Adds to a counter and prints the sum; any number of clients may do that at once, and none of their additions is lost.
#
#     sh examples/counter.sh NAME [HOW_MUCH]
#
# An addition that ends with "indeterminate" may have been counted, now or later: whoever repeats it may count twice.
#
# GKV_URL is a proxy or node, by default http://localhost:8080.
set -u
answer=$(curl -s -w '\n%{http_code}' -X POST "${GKV_URL:-http://localhost:8080}/v1/kv/counter/$1?add=${2:-1}")
if [ "${answer##*
}" = 200 ]; then
    echo "${answer%
*}"
else
    echo "counter.sh: $answer" >&2
    exit 1
fi
