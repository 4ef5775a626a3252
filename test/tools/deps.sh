#!/usr/bin/env bash
# Installs the programs that agents, test clusters and tests call, where they are missing. Debian and Ubuntu only;
# elsewhere it names what is missing. Does nothing, quickly, on a machine that has them all.
set -euo pipefail

# program -> package that has it
declare -A packages=(
  [iptables-nft-restore]=iptables
  [iptables-legacy-restore]=iptables
  [ip6tables-nft-restore]=iptables
  [ip6tables-legacy-restore]=iptables
  [ipset]=ipset
  [conntrack]=conntrack
  [ip]=iproute2
  [ipvsadm]=ipvsadm
  [nft]=nftables
  [modprobe]=kmod
  [strace]=strace
)

# Some shells of ordinary users lack the directories these programs live in.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# Where the kernel has no IPVS, what needs it runs in user-mode Linux (test/kernel), which is packaged for one architecture.
if [[ ! -e /proc/net/ip_vs && $(uname -m) == x86_64 ]] && ! modprobe --quiet ip_vs 2>/dev/null; then
  packages[linux.uml]=user-mode-linux
fi

declare -A missing=()
for program in "${!packages[@]}"; do
  command -v "$program" >/dev/null || missing[${packages[$program]}]=$program
done
((${#missing[@]})) || exit 0

echo "deps: missing packages: ${!missing[*]}"
if ! command -v apt-get >/dev/null; then
  echo "deps: no apt-get here; install the programs of these packages by hand" >&2
  exit 1
fi
if ((EUID != 0)); then
  echo "deps: run as root, or install them first: apt-get install ${!missing[*]}" >&2
  exit 1
fi
echo "deps: apt-get update"
apt-get update --quiet=2
echo "deps: apt-get install ${!missing[*]}"
DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "${!missing[@]}" >/dev/null
