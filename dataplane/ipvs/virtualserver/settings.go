package virtualserver

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
)

// Release is the release of the running kernel, such as 6.1.0-44-amd64.
func Release() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("reading the release of the kernel: %w", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}

// The parameters, below the root of the file system. See ipvs-sysctl.rst and ip-sysctl.rst in Documentation/networking
// of Linux.
const (
	sysctlsIPVS = "proc/sys/net/ipv4/vs/"
	sysctlsIPv4 = "proc/sys/net/ipv4/"
)

// Writes are the parameters that a kernel of some release needs for virtual servers that carry Services. Strict ARP has
// the node answer ARP only for addresses of the interface that is asked; without it nothing is said about that. They are
// there once module ip_vs is loaded, and are those of the network namespace.
func Writes(release string, strictARP bool) []conntrack.Write {
	writes := []conntrack.Write{
		// Connections are tracked as those of iptables are, so that they are masqueraded and survive a change of mode.
		{Path: sysctlsIPVS + "conntrack", Value: 1},
		// The connections of a real server that was deleted end at once, and not by a timeout.
		{Path: sysctlsIPVS + "expire_nodest_conn", Value: 1},
		// A client does not keep a real server of weight 0.
		{Path: sysctlsIPVS + "expire_quiescent_template", Value: 1},
		{Path: sysctlsIPv4 + "ip_forward", Value: 1},
	}
	if slowReuse(release) {
		writes = append(writes, conntrack.Write{Path: sysctlsIPVS + "conn_reuse_mode", Value: 0})
	}
	if strictARP {
		writes = append(writes,
			conntrack.Write{Path: sysctlsIPv4 + "conf/all/arp_ignore", Value: 1},
			conntrack.Write{Path: sysctlsIPv4 + "conf/all/arp_announce", Value: 2})
	}
	return writes
}

// slowReuse says whether a kernel, as those before 5.9 do, delays a connection by a second that has the source port of
// an earlier one, unless it may go to the real server of that one (commit f0a5e4d7a594).
func slowReuse(release string) bool {
	major, rest, _ := strings.Cut(release, ".")
	minor := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	return errA == nil && errB == nil && (a < 5 || a == 5 && b < 9)
}
