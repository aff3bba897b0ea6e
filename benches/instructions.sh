#!/usr/bin/env bash
# User-space instructions per packet, counted by callgrind.
#
#   benches/instructions.sh udp 127.0.0.1:9 8192 64
#
# runs benches/cost.rs for 200 batches and for 400; the difference is what 200 batches cost, start-up
# left out. What libibverbs.so.1 itself spends (with the software device, its share) is counted apart,
# by object. LD_LIBRARY_PATH and VERBS_DEVICE reach the program as they are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -eq 4 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cost=${COST:-$(cargo bench --no-run --bench cost --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*cost-[^"]*\)".*/\1/p')}

# count BATCHES ...: instructions of the program, of libibverbs, and packets
count() {
    local out=$scratch/out.$1 packets
    packets=$(valgrind -q --tool=callgrind --callgrind-out-file="$out" "$cost" "${@:2}" "$1" |
        sed 's|.*"packets":\([0-9]*\).*|\1|')
    # "ob=(id) name" opens an object; then a line for each place: position, cost. The line after a
    # "calls=" is the callee's cost, which is counted where it arises.
    awk -v packets="$packets" '
        /^ob=/ {
            match($0, /\([0-9]+\)/); id = substr($0, RSTART, RLENGTH)
            if (NF > 1) name[id] = $2
            device = name[id] ~ /verbs_device|libibverbs/
        }
        /^cob=/ && NF > 1 { match($0, /\([0-9]+\)/); name[substr($0, RSTART, RLENGTH)] = $2 }
        /^calls=/ { skip = 1; next }
        /^[0-9+*-]/ { if (skip) { skip = 0; next } if (device) d += $2; else p += $2 }
        END { print p + 0, d + 0, packets }' "$out"
}

read -r p1 d1 n1 < <(count 200 "$@")
read -r p2 d2 n2 < <(count 400 "$@")
awk -v p=$((p2 - p1)) -v d=$((d2 - d1)) -v n=$((n2 - n1)) 'BEGIN {
    printf "%.1f instructions a packet, and %.1f in libibverbs.so.1, over %d packets\n", p / n, d / n, n }'
