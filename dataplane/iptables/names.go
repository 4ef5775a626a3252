package iptables

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables/dispatch"
)

// prefix starts the name of every chain that this package makes, and of no other.
const prefix = "SPROXY-"

// The chains that are always there.
const (
	chainServices    = prefix + "SERVICES"
	chainAddresses   = prefix + "ADDRESSES"
	chainNodePorts   = prefix + "NODEPORTS"
	chainOffCluster  = prefix + "OFFCLUSTER"
	chainPostrouting = prefix + "POSTROUTING"
	chainFilter      = prefix + "FILTER"
	chainRange       = prefix + "RANGE"
	chainClosed      = prefix + "CLOSED"
	chainClosedPorts = prefix + "CLOSEDPORTS"
	chainForward     = prefix + "FORWARD"
	chainInput       = prefix + "INPUT"
)

// maxChainName is how long the name of a chain may be: XT_EXTENSION_MAXNAMELEN in linux/netfilter/x_tables.h, less the
// terminating zero.
const maxChainName = 28

// digest shortens a text to 13 characters that fit the name of a chain: 65 bits, enough that no two of a million names
// are likely to meet.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base32.StdEncoding.EncodeToString(sum[:])[:13]
}

// portDigest names a Service port. Both families have tables of their own, so they may share names.
func portDigest(id forwarding.PortID) string { return digest(id.String() + "/" + id.Protocol.String()) }

// treeChain is the name of the chain for a prefix in a tree. The root has the name of the tree; the others say what they
// match, as long as that fits.
func treeChain(root string, key dispatch.Key, addressNibbles int) string {
	if key == "" {
		return root
	}
	var tag string
	if root != chainAddresses {
		tag = strings.TrimPrefix(root, prefix)[:1] + "-"
	}
	name := prefix + tag + strings.ReplaceAll(key.String(addressNibbles), ":", "_")
	if len(name) > maxChainName {
		name = prefix + tag + digest(name)
	}
	return name
}
