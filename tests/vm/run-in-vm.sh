#!/usr/bin/env bash
# run-in-vm.sh - run a command in a throw-away Linux VM that has Soft-RoCE.
#
# Why: the build and CI machines have no RDMA hardware, and often a kernel
# without modules or InfiniBand, so libibverbs programs cannot be tested there.
# This script boots an unmodified Debian kernel under QEMU in pure software
# emulation (no KVM needed), loads rdma_rxe, runs one command, and exits with
# that command's exit status.
#
# Nothing is installed on the host and there is no disk image.  The Debian
# packages needed are downloaded with apt-get, unpacked into a cache directory
# and made into an initramfs.  The first run downloads 130 MB or so.
#
# Host requirements: Debian 12 or similar, amd64, working apt sources (run
# `apt-get update` before the first run).  Root is not needed.
#
# Usage: run-in-vm.sh [option...] [--] COMMAND [ARG...]
#
#   --files PATH     put a file, or the contents of a directory, in the guest's
#                    /payload (repeatable).  COMMAND runs with /payload as current
#                    directory, first in PATH, and first in LD_LIBRARY_PATH.
#   --out DIR        mount the host directory DIR read-write as /out in the
#                    guest, for logs, core files, coverage data and the like
#   --env NAME=VAL   set an environment variable for COMMAND (repeatable)
#   --pkg NAME       add a Debian package and its dependencies (repeatable)
#   --module NAME    add a kernel module, and load it (repeatable)
#   --net one        (default) one RoCE device: rxe0 on veth0, with addresses
#                    10.99.0.1/24 (GID index 1) and fd99::1/64 (GID index 2)
#   --net two        also rxe1 on veth1, the other end, with 10.99.0.2 and
#                    fd99::2.  Traffic between rxe0 and rxe1 really crosses the
#                    veth pair, where it can be captured, delayed or dropped.
#   --net none       load the modules, but make no device
#   --mtu N          MTU of veth0 and veth1 (default 4500, which makes the RoCE
#                    MTU 4096)
#   --hugepages N    reserve N huge pages of 2 MiB; hugetlbfs on /dev/hugepages
#   --mem MIB        guest memory (default 2048)
#   --smp N          guest CPUs (default: as many as the host, at most 4)
#   --timeout S      give up after S seconds (default 300)
#   --kernel PKG     kernel package (default: the one linux-image-amd64 names)
#   --kernel-deb F   kernel package file
#   --append STR     more kernel command line
#   --cache DIR      cache directory (default: target/vm of this source tree; in
#                    $XDG_CACHE_HOME/doorbell-vm where that is set)
#   --prepare        only fill the cache
#   -v               say what is done; show the guest's kernel log at the end
#
# Exit status: COMMAND's; 124 for a time-out; 125 if the VM or its set-up fails
# (then the end of the guest's kernel log is shown).
#
# COMMAND runs as root, with no limit on locked memory.  Its stdout and stderr
# both arrive on stdout.  There is no stdin and no network to the outside.

set -euo pipefail
export LC_ALL=C
self=$(readlink -f "$0")

die() { echo "run-in-vm: $*" >&2; exit 125; }
say() { [ -z "$verbose" ] || echo "run-in-vm: $*" >&2; }

# ------------------------------------------------------------------ arguments

cache=$(dirname "$self")/../../target/vm
[ -z "${XDG_CACHE_HOME:-}" ] || cache=$XDG_CACHE_HOME/doorbell-vm
files=() envs=() pkgs=() extra_modules=()
out='' net=one mtu=4500 huge=0 mem=2048 timeout=300
kernel_pkg='' kernel_deb='' append='' prepare='' verbose=''
smp=$(nproc); [ "$smp" -le 4 ] || smp=4

while [ $# -gt 0 ]; do
    case $1 in
        --prepare) prepare=1; shift; continue ;;
        -v) verbose=1; shift; continue ;;
        -h|--help) sed -n '2,/^$/s/^# \{0,1\}//p' "$self"; exit 0 ;;
        --) shift; break ;;
        -*) [ $# -ge 2 ] || die "$1: bad option, or value missing (try --help)" ;;
        *) break ;;
    esac
    case $1 in
        --files) files+=("$2") ;;
        --out) out=$2 ;;
        --env) envs+=("$2") ;;
        --pkg) pkgs+=("$2") ;;
        --module) extra_modules+=("$2") ;;
        --net) net=$2 ;;
        --mtu) mtu=$2 ;;
        --hugepages) huge=$2 ;;
        --mem) mem=$2 ;;
        --smp) smp=$2 ;;
        --timeout) timeout=$2 ;;
        --kernel) kernel_pkg=$2 ;;
        --kernel-deb) kernel_deb=$(readlink -f "$2") ;;
        --append) append=$2 ;;
        --cache) cache=$2 ;;
        *) die "unknown option $1 (try --help)" ;;
    esac
    shift 2
done
[ $# -gt 0 ] || [ -n "$prepare" ] || die "no command given (try --help)"
case $net in one|two|none) ;; *) die "--net: one, two or none" ;; esac
for f in ${files[@]+"${files[@]}"}; do [ -e "$f" ] || die "--files $f: not found"; done
for tool in apt-get dpkg-deb tar xz od timeout flock sha256sum; do
    command -v "$tool" > /dev/null || die "$tool is needed on the host"
done
[ "$(dpkg --print-architecture)" = amd64 ] || die "the host must be amd64"
mkdir -p "$cache"; cache=$(readlink -f "$cache")

# ---------------------------------------------------------- what the guest has

guest_pkgs=(dash busybox-static kmod iproute2 libc6 libstdc++6
            ibverbs-providers ibverbs-utils rdmacm-utils perftest
            ${pkgs[@]+"${pkgs[@]}"})

# Modules, without those that they depend on.  crc32: rdma_rxe asks for it by
# its name as an algorithm, which modules.dep does not know about.
modules=(rdma_rxe ib_uverbs rdma_ucm ib_umad crc32_generic crc32-pclmul
         veth sch_netem virtio_pci 9p 9pnet_virtio
         ${extra_modules[@]+"${extra_modules[@]}"})

# ------------------------------------------------------------------- the cache
#
# It has one directory for QEMU, one for each set of guest packages, and one
# for each kernel and set of modules.  A directory is made under a temporary
# name and renamed when complete.

tag() { echo "$*" | sha256sum | cut -c1-10; }
guest=guest-$(tag tree "${guest_pkgs[*]}")
kernel=kernel-$(tag "$kernel_pkg" "$kernel_deb" "${modules[*]}")

# missing NAME: is there still this directory to make?  If so, $tmp is empty.
missing() {
    [ ! -e "$cache/$1" ] || return 1
    tmp=$cache/.tmp.$1; rm -rf "$tmp"; mkdir -p "$tmp"
    say "making $cache/$1"
}
complete() { mv "$tmp" "$cache/$1"; }

# fetch DIR PKG...: download packages with all their dependencies into DIR.
# Given an empty status file apt believes that nothing is installed, so what
# comes does not depend on what the host happens to have.
fetch() {
    local dir=$1; shift
    mkdir -p "$dir/partial"; : > "$dir/status"
    apt-get -o Dir::State::status="$dir/status" -o Dir::Cache::archives="$dir" \
            -o APT::Sandbox::User=root -o Debug::NoLocking=1 \
            -o APT::Install-Recommends=0 -qq -y --download-only \
            install "$@" > "$dir/log" 2>&1 ||
        { cat "$dir/log" >&2; die "download failed (was apt-get update run?)"; }
    say "downloaded $(du -ch "$dir"/*.deb | tail -n 1 | cut -f 1)"
}

# unpack DIR ROOT: unpack all packages of DIR in ROOT, as a merged-/usr system.
unpack() {
    local l deb
    for l in bin sbin lib lib64; do
        mkdir -p "$2/usr/$l"; ln -sfn "usr/$l" "$2/$l"
    done
    for deb in "$1"/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" |
            tar -x -C "$2" --keep-directory-symlink --no-same-owner \
                --exclude='./usr/share/doc' --exclude='./usr/share/man' \
                --exclude='./usr/share/locale'
    done
}

# pack DIR BUSYBOX: write DIR to stdout as a cpio archive, which is what an
# initramfs is.  The host may not have cpio, so busybox does it.
pack() { (cd "$1" && find . | sort | "$2" cpio -o -H newc 2> /dev/null); }

make_qemu() {
    missing emulator || return 0
    fetch "$tmp/debs" qemu-system-x86
    unpack "$tmp/debs" "$tmp/tree"
    rm -r "$tmp/debs"
    complete emulator
}

make_guest() {
    missing "$guest" || return 0
    local root=$tmp/tree f
    fetch "$tmp/debs" "${guest_pkgs[@]}"
    unpack "$tmp/debs" "$root"
    rm -r "$tmp/debs"
    # Unpacking takes the emulated kernel a second per 40 MB or so.
    rm -rf "$root"/usr/lib/x86_64-linux-gnu/gconv "$root"/usr/share/{misc,perl5}
    mkdir -p "$root"/{proc,sys,dev,tmp,run,out,work,root,etc,var}
    ln -sfn /run "$root/var/run"
    ln -sfn dash "$root/bin/sh"
    echo 'root:x:0:0:root:/root:/bin/sh' > "$root/etc/passwd"
    echo 'root:x:0:' > "$root/etc/group"
    echo '127.0.0.1 localhost' > "$root/etc/hosts"
    # busybox supplies the commands that the packages do not.  Its shell is not
    # used: it prefers its own ip, modprobe and so on to the real ones.
    for f in $("$root/bin/busybox" --list); do
        [ -e "$root/bin/$f" ] || [ -L "$root/bin/$f" ] ||
            [ -e "$root/sbin/$f" ] || [ -L "$root/sbin/$f" ] ||
            ln -s busybox "$root/bin/$f"
    done
    pack "$root" "$root/bin/busybox" > "$tmp/initrd"
    complete "$guest"
}

# kmod PROGRAM ARG...: run depmod and so on from the guest's packages.
kmod() {
    local root=$cache/$guest/tree prog=$1; shift
    "$root/lib64/ld-linux-x86-64.so.2" --argv0 "$prog" \
        --library-path "$root/usr/lib/x86_64-linux-gnu" "$root/bin/kmod" "$@"
}

# Get vmlinux out of vmlinuz.  QEMU can start it as it is (by the PVH entry
# point), and unpacking it here takes a fraction of a second, which the kernel
# itself needs six seconds for when emulated.  The offsets are those of the
# kernel's Documentation/arch/x86/boot.rst; the payload ends with its size.
extract_vmlinux() {  # FROM TO
    local sects start len magic
    sects=$(od -An -tu1 -j $((0x1f1)) -N 1 "$1")
    start=$(od -An -tu4 -j $((0x248)) -N 4 "$1")
    len=$(od -An -tu4 -j $((0x24c)) -N 4 "$1")
    dd if="$1" of="$2.z" bs=64K iflag=skip_bytes,count_bytes status=none \
       skip=$(((sects + 1) * 512 + start)) count=$((len - 4))
    magic=$(od -An -tx1 -N 4 "$2.z" | tr -d ' ')
    case $magic in
        fd377a58) xz -dc "$2.z" > "$2" ;;
        28b52ffd) zstd -dcq "$2.z" > "$2" ;;
        1f8b08*)  gzip -dc < "$2.z" > "$2" ;;
        *) die "kernel compressed in an unknown way ($magic)" ;;
    esac
    rm "$2.z"
}

make_kernel() {
    missing "$kernel" || return 0
    local root=$tmp/tree keep=$tmp/keep ver from to m
    mkdir "$tmp/debs"
    if [ -n "$kernel_deb" ]; then
        cp "$kernel_deb" "$tmp/debs/"
    else
        # linux-image-amd64 is empty but for its dependency.
        [ -n "$kernel_pkg" ] ||
            kernel_pkg=$(apt-cache depends linux-image-amd64 |
                awk '$1 == "Depends:" && $2 ~ /^linux-image/ { print $2; exit }')
        # The kernel alone: its dependencies are for installing it.
        (cd "$tmp/debs" &&
            apt-get -qq -o APT::Sandbox::User=root download "$kernel_pkg") ||
            die "cannot download the kernel package $kernel_pkg"
        say "downloaded $(du -h "$tmp"/debs/*.deb)"
    fi
    unpack "$tmp/debs" "$root"
    extract_vmlinux "$root"/boot/vmlinuz-* "$tmp/vmlinux"

    # Keep the wanted modules and, going by modules.dep, what they need.
    ver=$(basename "$root"/usr/lib/modules/*)
    from=$root/usr/lib/modules/$ver to=$keep/usr/lib/modules/$ver
    mkdir -p "$to"; ln -s usr/lib "$keep/lib"
    kmod depmod -b "$root" "$ver"
    for m in "${modules[@]}"; do
        awk -v want="$m" '
            { path = $1; sub(/:$/, "", path)
              name = path; sub(/.*\//, "", name); sub(/\.ko.*/, "", name)
              gsub(/-/, "_", name); gsub(/-/, "_", want) }
            name == want { print path; for (i = 2; i <= NF; i++) print $i }' \
            "$from/modules.dep"
    done | sort -u | (cd "$from" && xargs cp --parents -t "$to")
    find "$to" -name '*.ko.xz' -exec xz -d {} +
    cp "$from"/modules.{order,builtin,builtin.modinfo} "$to/"
    kmod depmod -b "$keep" "$ver"
    rm "$keep/lib"
    pack "$keep" "$cache/$guest/tree/bin/busybox" > "$tmp/initrd"
    rm -r "$root" "$keep" "$tmp/debs"
    complete "$kernel"
}

{
    flock 9    # one at a time
    make_qemu
    make_guest
    make_kernel
} 9> "$cache/.lock"
[ -z "$prepare" ] || exit 0

# ------------------------------------------------------------------- this run

run=$(mktemp -d "${TMPDIR:-/var/tmp}/run-in-vm.XXXXXX")
qemu_pid=''
cleanup() {
    [ -z "$qemu_pid" ] || kill "$qemu_pid" 2> /dev/null || true
    rm -rf "$run"
}
trap cleanup EXIT
trap 'exit 125' INT TERM HUP

# What differs from run to run goes into a small archive of its own; the kernel
# unpacks one after the other.
mkdir -p "$run/tree/etc" "$run/tree/payload"
for f in ${files[@]+"${files[@]}"}; do
    [ ! -d "$f" ] || f=$f/.
    cp -aL "$f" "$run/tree/payload/"
done

cat > "$run/tree/etc/vm.conf" <<CONF
VM_NET=$net
VM_MTU=$mtu
VM_HUGE=$huge
VM_OUT=${out:+yes}
VM_MODULES='${extra_modules[*]-}'
CONF

quote() { printf "'%s' " "${1//\'/\'\\\'\'}"; }
{
    for e in ${envs[@]+"${envs[@]}"}; do
        printf 'export %s=' "${e%%=*}"; quote "${e#*=}"; echo
    done
    for a in "$@"; do quote "$a"; done; echo
} > "$run/tree/etc/vm.cmd"

# The guest's process 1.  There are three serial ports: ttyS0 for the kernel
# log, ttyS1 for what COMMAND prints, ttyS2 for its exit status.
cat > "$run/tree/init" <<'INIT'
#!/bin/dash
export PATH=/payload:/usr/sbin:/usr/bin LD_LIBRARY_PATH=/payload HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2> /dev/null
mkdir -p /dev/pts /dev/shm /dev/hugepages
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
stty -F /dev/ttyS1 raw -echo
stty -F /dev/ttyS2 raw -echo
. /etc/vm.conf

finish() {
    sync
    echo "$1" > /dev/ttyS2
    reboot -f      # with -no-reboot, this ends QEMU
    sleep 60
}
fail() { echo "run-in-vm: guest: $* failed" > /dev/console; finish 125; }
note() { echo "[init] $(cut -d ' ' -f 1 /proc/uptime) s: $*" > /dev/console; }

note "started"
ip link set lo up
if [ "$VM_HUGE" -gt 0 ]; then
    echo "$VM_HUGE" > /proc/sys/vm/nr_hugepages
    mount -t hugetlbfs huge /dev/hugepages
fi
if [ -n "$VM_OUT" ]; then
    modprobe -a virtio_pci 9pnet_virtio 9p || fail "modprobe 9p"
    mount -t 9p -o trans=virtio,version=9p2000.L,cache=mmap,msize=262144 out /out ||
        fail "mount /out"
fi
modprobe -a ib_uverbs rdma_ucm rdma_rxe $VM_MODULES || fail modprobe

if [ "$VM_NET" != none ]; then
    ip link add veth0 address 02:00:00:00:00:01 mtu "$VM_MTU" type veth \
        peer name veth1 address 02:00:00:00:00:02 mtu "$VM_MTU"
    ip link set veth0 up
    ip link set veth1 up
    for i in 0 1; do
        [ $i = 0 ] || [ "$VM_NET" = two ] || continue
        ip addr add 10.99.0.$((i + 1))/24 dev veth$i
        ip addr add fd99::$((i + 1))/64 dev veth$i nodad
        rdma link add rxe$i type rxe netdev veth$i || fail "rdma link add"
    done
    # The port becomes active and gets its GIDs a little later.
    for port in /sys/class/infiniband/*/ports/1; do
        n=0
        until grep -q ACTIVE $port/state && grep -q ^fd99 $port/gids/2; do
            n=$((n + 1)); [ $n -le 100 ] || fail "waiting for $port"
            sleep 0.1
        done
    done
fi

# Both ends of the cable belong to this one kernel, which therefore would take
# a short cut through lo.  (Soft-RoCE knows no network namespaces, so one end
# cannot be moved to another.)  To make traffic between them use the cable:
# when a sender asks for an interface, as RoCE does, look in a table that says
# where the other end is, before the table of local addresses; and accept
# packets that come from a local address.
if [ "$VM_NET" = two ]; then
    for i in 0 1; do
        peer=$((2 - i))
        conf=/proc/sys/net/ipv4/conf/veth$i
        echo 1 > $conf/accept_local
        echo 1 > $conf/arp_ignore
        echo 2 > $conf/arp_announce
        ip route add 10.99.0.$peer dev veth$i table 10$i
        ip -6 route add fd99::$peer dev veth$i table 10$i
        ip rule add pref 10 oif veth$i lookup 10$i
        ip -6 rule add pref 10 oif veth$i lookup 10$i
    done
    for v in -4 -6; do
        ip $v rule add pref 20 lookup local
        ip $v rule del pref 0
    done
fi

ulimit -l unlimited
ulimit -c unlimited
note "running the command"
cd /payload
sh /etc/vm.cmd < /dev/null > /dev/ttyS1 2>&1
finish $?
INIT
chmod +x "$run/tree/init"

{
    cat "$cache/$guest/initrd" "$cache/$kernel/initrd"
    pack "$run/tree" "$cache/$guest/tree/bin/busybox"
} > "$run/initrd"

# Kernel command line:
#   tsc=reliable        otherwise the HPET is the clock, and reading it is slow
#   oops=panic panic=-1 a crash ends the VM
#   mitigations=off, lsm=, cryptomgr.notests   boot faster
cmdline="console=ttyS0 quiet tsc=reliable oops=panic panic=-1 mitigations=off
         lsm= cryptomgr.notests $append"

root=$cache/emulator/tree
lib=$root/usr/lib/x86_64-linux-gnu
qemu=("$root/lib64/ld-linux-x86-64.so.2" --library-path "$lib"
      "$root/usr/bin/qemu-system-x86_64"
      -L "$root/usr/share/qemu" -L "$root/usr/share/seabios"
      -machine pc -accel tcg,thread=multi -cpu max -smp "$smp" -m "$mem"
      -nodefaults -no-user-config -display none -no-reboot
      -kernel "$cache/$kernel/vmlinux" -initrd "$run/initrd"
      -append "$(echo $cmdline)"
      -serial "file:$run/console"
      -chardev stdio,id=command,signal=off -serial chardev:command
      -serial "file:$run/status")
if [ -n "$out" ]; then
    mkdir -p "$out"
    qemu+=(-virtfs "local,path=$(readlink -f "$out"),mount_tag=out,security_model=none,multidevs=remap")
fi

# In the background, so that a signal to this script is acted upon at once.
QEMU_MODULE_DIR=$lib/qemu timeout --kill-after=5 "$timeout" "${qemu[@]}" < /dev/null &
qemu_pid=$!
rc=0; wait "$qemu_pid" || rc=$?
qemu_pid=''

status=$(tr -dc 0-9 < "$run/status" 2> /dev/null || true)
if [ -n "$verbose" ]; then cat "$run/console" >&2
elif [ "${status:-125}" = 125 ]; then tail -n 60 "$run/console" >&2 || true
fi
[ -z "$status" ] || exit "$status"
[ "$rc" != 124 ] || { echo "run-in-vm: time-out after $timeout s" >&2; exit 124; }
die "the VM ended early (QEMU's exit status: $rc)"
