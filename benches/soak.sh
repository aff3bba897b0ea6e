#!/usr/bin/env bash
# Sends 100 million packets, or as many as are asked for, into a device that frees them, and shows that
# memory stays as it is: resident memory once a second, and its extremes after the first seconds.
#
#   benches/soak.sh [PACKETS]
#
# Needs a release build, the privilege to make network namespaces, and iproute2.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
packets=${1-100000000}
if [ "${2-}" != --inside ]; then
    exec benches/namespace.sh 9000 "$PWD/benches/soak.sh" "$packets" --inside
fi
report=$(mktemp)
trap 'rm -f "$report"' EXIT
# 64 heaps of a packet each would be few packets a message at most sizes: 1 KiB ones fill 61.
target/release/doorbell send --to 192.0.2.1:7148 --heaps "$packets" --heap-size 1KiB --zerocopy off \
    --json -q >"$report" &
pid=$!
samples=()
while sleep 1 && kill -0 "$pid" 2>/dev/null; do
    resident=$(awk '/^VmRSS/ {print $2}' "/proc/$pid/status" 2>/dev/null) || break
    [ -z "$resident" ] || samples+=("$resident")
done
wait "$pid"
printf '%s\n' "${samples[@]}" | awk '
    { printf "%d%s", $1, (NR % 15 ? " " : "\n") }
    NR > 2 { if (!least || $1 < least) least = $1; if ($1 > most) most = $1 }
    END { printf "\nresident memory after 2 s: %d to %d KiB in %d samples\n", least, most, NR - 2
          exit most > least + 1024 }'
tail -n 1 "$report"
