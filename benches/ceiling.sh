#!/usr/bin/env bash
# How near the UDP path comes to the bare ceiling: benches/cost.rs and benches/ceiling.rs in turn, in one
# network namespace, for every heap size, packet limit and layout.
#
#   benches/ceiling.sh [ROUNDS [SECONDS]]
#
# A line a case: medians, in GB of payload a second of processor time (which other programs disturb less
# than time on the clock), and the ratio. SIZES, LIMITS and CASES narrow it down.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rounds=${1:-5} seconds=${2:-0.2}
if [ "${3-}" != --inside ]; then
    program() {
        cargo bench --no-run --bench "$1" --message-format=json 2>/dev/null |
            sed -n 's/.*"executable":"\([^"]*'"$1"'-[^"]*\)".*/\1/p'
    }
    CEILING=${CEILING:-$(program ceiling)} COST=${COST:-$(program cost)}
    export CEILING COST
    exec benches/namespace.sh 9000 "$0" "$rounds" "$seconds" --inside
fi
rate() { sed 's/.*"gb_per_cpu_s":\([0-9.]*\).*/\1/'; }
to=192.0.2.1:7148
printf '%-16s %5s %8s %8s %8s %6s\n' case limit heap ceiling ours ratio
for case in ${CASES:-packed packed-zerocopy split}; do
    case $case in *-zerocopy) zero_copy=auto ;; *) zero_copy=off ;; esac
    for limit in ${LIMITS:-1472 8972}; do
        for heap in ${SIZES:-512 1024 2048 4096 8192 16384 65536 262144 1048576 4194304}; do
            heaps=$((524288 / heap)); [ "$heaps" -ge 1 ] || heaps=1
            for ((round = 0; round < rounds; round++)); do
                echo "c $("$CEILING" "$case" $to "$heap" "$limit" "$seconds" | rate)"
                echo "o $("$COST" udp $to "$heap" "$heaps" "$seconds"s "${case%-zerocopy}" \
                    $zero_copy "$limit" | rate)"
            done | sort -k1,1 -k2,2n | awk -v name="$case" -v limit="$limit" -v heap="$heap" '
                { value[$1, ++count[$1]] = $2 }
                END {
                    c = value["c", int((count["c"] + 1) / 2)]
                    o = value["o", int((count["o"] + 1) / 2)]
                    printf "%-16s %5d %8d %8.2f %8.2f %6.3f\n", name, limit, heap, c, o, o / c
                }'
        done
    done
done
