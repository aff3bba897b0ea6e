#!/bin/sh
# What the virtual machine runs: doorbell with rdma-core and Soft-RoCE, between two devices, rxe0 on veth0
# (10.99.0.1, fd99::1) and rxe1 on veth1 (10.99.0.2, fd99::2), that are the ends of one cable.
#
# Each check compares what the receiver saw with what was sent. The last line counts them; the exit
# code is 0 only if none failed. No check depends on how fast anything goes, except that one which does
# not end is ended.
set -u
out=/tmp/out
mkdir -p $out
passed=0 failed=0

main() {
    head -c 3000007 /dev/urandom >$out/samples.bin

    check "devices: names what there is" devices_are_described
    check "raw packets are refused, with a reason" raw_packets_are_refused
    check "auto goes on with udp" auto_takes_udp
    check "plan knows the MTU of RDMA" plan_shows_messages
    for completion in poll event; do
        for layout in packed split; do
            check "pattern: $layout, $completion" stream pattern $layout $completion
        done
    done
    check "random, IPv6" stream_over_ipv6
    check "batches larger than the queue" larger_than_the_queue
    check "a multicast group" multicast
    check "a file, where it lies or copied" file_stream
    check "a wrong key is dropped" wrong_key
    check "locked memory too low" memlock
    check "the device is taken away" device_removed

    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ]
}

# check NAME COMMAND...: a check that ends, one way or the other.
check() {
    name=$1 said=
    shift
    began=$(cut -d. -f1 /proc/uptime)
    if "$@" >$out/log 2>&1; then
        passed=$((passed + 1))
        echo "ok      $name$said ($(($(cut -d. -f1 /proc/uptime) - began)) s)"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
        sed 's/^/        /' $out/log
        for file in $out/recv.json $out/send.json $out/recv.err $out/send.err; do
            [ ! -s $file ] || { echo "        -- $file"; sed 's/^/        /' $file; }
        done
    fi
    rm -f $out/recv.json $out/send.json $out/recv.err $out/send.err
}

# figure NAME: a number of the sender's report.
figure() {
    sed -n 's/^{.*"'"$1"'":\([0-9]*\).*/\1/p' $out/send.json
}

# has FILE TEXT...: each text is in the file.
has() {
    file=$1
    shift
    for text in "$@"; do
        grep -qF -e "$text" "$file" || { echo "not in $file: $text"; cat "$file"; return 1; }
    done
}

# listen ARG...: starts a receiver, and sets $queue to where it is found.
listen() {
    timeout 60 doorbell recv --backend verbs --qp ud --json "$@" >$out/recv.json 2>$out/recv.err &
    receiver=$!
    n=0
    until queue=$(sed -n 's/^listening at \([^ ]*\) of .*/\1/p' $out/recv.err) && [ -n "$queue" ]; do
        n=$((n + 1))
        [ $n -le 100 ] && kill -0 $receiver || { echo "no receiver"; return 1; }
        sleep 0.1
    done
    echo "queue $queue"
}

# send ARG...: sends from rxe0 to $queue.
send() {
    timeout 60 doorbell send --backend verbs --qp ud --device rxe0 --to "$queue" --json "$@" \
        >$out/send.json 2>$out/send.err
}

# arrived HEAPS: the sender sent that many, and the receiver verified them.
arrived() {
    wait $receiver || { echo "the receiver's exit code is $?"; return 1; }
    has $out/send.json "\"heaps\":$1," '"heaps_failed":0,' '"backend":"verbs"' &&
        has $out/recv.json "\"heaps\":$1," '"incomplete":0,' '"missing":0,' '"mismatched":0,'
}

devices_are_described() {
    doorbell devices >$out/devices && doorbell devices --json >$out/devices.json || return 1
    has $out/devices rxe0 rxe1 'active, Ethernet' 'RDMA MTU 4096' veth0 ::ffff:10.99.0.1 fd99::1 \
        'raw packets  not supported' 'has no raw packet queue pairs' &&
        has $out/devices.json '"state":"active"' '"rdma_mtu":4096' '"code":"no-raw-packets"'
}

# To a group, which needs no neighbour.
raw_packets_are_refused() {
    doorbell send --backend verbs --interface veth0 --to 239.9.9.9:7148 --heaps 10 >$out/all 2>&1
    [ $? -eq 3 ] || { echo "another exit code"; cat $out/all; return 1; }
    has $out/all 'create a raw packet queue pair (rxe0)' 'ConnectX NICs have' \
        'ud, for backend.qp (--qp)'
}

auto_takes_udp() {
    timeout 60 doorbell recv --from 239.9.9.9:7148 --interface veth1 --verify pattern --json \
        >$out/recv.json 2>$out/recv.err &
    receiver=$!
    until grep -q listening $out/recv.err; do sleep 0.1; done
    doorbell send --interface veth0 --to 239.9.9.9:7148 --heaps 100 --rate 100Mb/s --json \
        >$out/send.json 2>$out/send.err || return 1
    wait $receiver || return 1
    has $out/send.json '"backend":"udp"' 'auto: no verbs' &&
        has $out/recv.json '"heaps":100,' '"mismatched":0,'
}

plan_shows_messages() {
    doorbell plan --to 10.99.0.2/0x11 --device rxe0 --heap-size 8KiB >$out/plan || return 1
    has $out/plan 'verbs' 'MTU 4096 bytes: packets of up to 4096 bytes' '1 a batch' || return 1
    doorbell plan --to 10.99.0.2/0x11 --device rxe0 --packet-size 5000 >$out/plan 2>&1
    [ $? -eq 2 ] && has $out/plan 'stream.packet_size (--packet-size)' 'at most 4096 bytes'
}

# 103 heaps of 3 packets, in batches of 10: 10 whole ones, the first heap of which has the descriptors, and a
# partial one; and the stop heap: 12 doorbells.
stream() {
    listen --device rxe1 --verify "$1" || return 1
    send --source "$1" --layout "$2" --completion "$3" --heaps 103 --batch-heaps 10 \
        --heap-size 10000 || return 1
    arrived 103 && has $out/send.json '"doorbells":12,'
}

stream_over_ipv6() {
    listen --interface fd99::2 --verify random:7 || return 1
    case $queue in fd99::2/*) ;; *) echo "not the address asked for"; return 1 ;; esac
    send --source random:7 --heaps 300 --heap-size 20000 && arrived 300
}

# A batch of 33,000 packets, of which a queue of the device takes 32,767 at once: it goes in two parts.
larger_than_the_queue() {
    listen --device rxe1 --verify pattern || return 1
    send --heaps 33001 --heap-size 64 --batch-heaps 33000 --in-flight 1 --layout split || return 1
    arrived 33001 && has $out/send.json '"doorbells":4,'
}

multicast() {
    listen --interface veth1 --from 239.9.9.8/0xffffff --verify random:3 || return 1
    send --source random:3 --heaps 100 && arrived 100
}

# 3,000,007 bytes make 366 heaps of 8 KiB. The receiver keeps what it gets, item by item.
file_stream() {
    listen --device rxe1 --write $out/received.npy || return 1
    send --source $out/samples.bin --heap-size 8192 -vv || return 1
    arrived 366 || return 1
    # What a numpy file holds ends it.
    tail -c $((366 * 8192)) $out/received.npy >$out/received.bin
    head -c $((366 * 8192)) $out/samples.bin | cmp - $out/received.bin || return 1
    rm $out/received.bin $out/received.npy
    # Which of the two is up to the kernel and the file system.
    if grep -q 'is registered where it lies' $out/send.err; then
        said=', registered where it lies'
        ! grep -q 'payload is copied' $out/send.err
    else
        said=', copied, and said so'
        has $out/send.err 'a read-only mapping cannot be registered here' 'payload is copied'
    fi
}

wrong_key() {
    listen --device rxe1 --qkey 0x77 --timeout 2 || return 1
    queue=${queue%/*}/0x78
    send --heaps 10 || return 1
    wait $receiver
    [ $? -eq 1 ] && has $out/recv.json '"packets":0,'
}

# Root may lock all it likes, others what the limit says.
memlock() {
    chmod 666 /dev/infiniband/uverbs*
    listen --device rxe1 --timeout 1 || return 1
    echo 'nobody:x:65534:65534:nobody:/tmp:/bin/sh' >>/etc/passwd
    (ulimit -l 64 && exec su nobody -s /bin/sh -c \
        "doorbell send --device rxe0 --to $queue --heaps 10") >$out/all 2>&1
    code=$?
    wait $receiver
    [ $code -eq 3 ] || { echo "exit code $code"; cat $out/all; return 1; }
    has $out/all 'RLIMIT_MEMLOCK'
}

# The stream is long; the device goes when it is well under way.
device_removed() {
    listen --device rxe1 || return 1
    timeout 60 doorbell send --backend verbs --qp ud --device rxe0 --to "$queue" --heaps 200000 \
        --json >$out/send.json 2>$out/send.err &
    sender=$!
    sleep 2
    rdma link delete rxe0 &
    wait $sender
    code=$?
    echo "the sender's exit code is $code"
    rdma link delete rxe1
    wait $receiver
    echo "the receiver's exit code is $?"
    [ $code -eq 1 ] && has $out/send.err 'the device is gone' && has $out/recv.err 'the device is gone' &&
        ! grep -q '"heaps_failed":0,' $out/send.json &&
        [ $(($(figure heaps) + $(figure heaps_unsubmitted))) -eq 200000 ]
}

main
