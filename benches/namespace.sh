#!/usr/bin/env bash
# Runs a command in a network namespace of its own whose only route leads into an `ifb` device, which
# frees what it is to transmit: the sink that disturbs a sender least.
#
#   benches/namespace.sh MTU COMMAND...
#
# 192.0.2.1 and 2001:db8::1 are on that device. Needs the privilege to make namespaces (or unprivileged
# user namespaces), and iproute2.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
mtu=$1
shift
if [ "${1-}" != --inside ]; then
    map=()
    [ "$(id -u)" = 0 ] || map=(--map-root-user)
    exec unshare "${map[@]}" --net "$0" "$mtu" --inside "$@"
fi
shift
ip link set lo up
ip link add ifb0 type ifb
ip link set ifb0 mtu "$mtu" arp off addrgenmode none up
ip address add 192.0.2.2/24 dev ifb0
ip -6 address add 2001:db8::2/64 dev ifb0 nodad
exec "$@"
