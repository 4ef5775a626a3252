#!/bin/sh
# The first process inside. The folder of this file holds program.sh, whose function runs the program, and goes at once:
# it is needed no more, and whoever ends the machine early has nothing to clean up.
#
# The serial lines lead outside: 0 and 1 are standard output and error of the program, 2 takes its exit status.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
job=${0%/*}
. "$job/program.sh"
rm -rf "$job"

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs tmpfs /run

# Modules are loaded on demand, from where the package puts them. MODPROBE_OPTIONS says so to programs that call modprobe,
# the script to the kernel, which takes a path without options.
mkdir -p /run/lib
ln -s /usr/lib/uml/modules /run/lib/modules
printf '#!/bin/sh\nexec %s -d /run "$@"\n' "$(command -v modprobe)" >/run/modprobe
chmod +x /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
# Agents may not load modules, and only these are not loaded by the kernel itself when they are needed.
/run/modprobe -a ip_vs br_netfilter iptable_filter iptable_mangle iptable_nat ip6table_filter ip6table_mangle ip6table_nat

# iptables means iptables-nft on most machines, which has nothing to talk to here. Called by that name, the legacy program
# refuses; by the name iptables it works.
if legacy=$(command -v iptables-legacy) && nft=$(command -v iptables-nft); then
  mount --bind "$(readlink -f "$legacy")" "$(readlink -f "$nft")"
fi

ip link set lo up
if [ -e /sys/class/net/vec0 ]; then
  ip address add "$NETWORK" dev vec0
  ip link set vec0 up
fi

ulimit -n 65536
for line in 0 1 2; do stty -F /dev/ttyS$line raw; done
# A program that sees a terminal where outside there is none would write in colour. What it started and left behind may
# keep the pipes open, and is given five seconds.
mkfifo /run/stdout /run/stderr
cat /run/stdout >/dev/ttyS0 &
readers=$!
cat /run/stderr >/dev/ttyS1 &
readers="$readers $!"
(program) </dev/null >/run/stdout 2>/run/stderr
echo $? >/dev/ttyS2
(sleep 5 && kill $readers) &
wait $readers
echo o >/proc/sysrq-trigger # Power off.
read -r _ </dev/console
