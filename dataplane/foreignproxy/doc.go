// Package foreignproxy finds what kube-proxy has left in the kernel of a node, tells whether it still runs, and removes
// what it left when somebody asks for that.
//
// The rules of kube-proxy are known by what only it makes: in mode iptables chains for Services and endpoints, in mode
// nftables a table of its own, in mode ipvs a link with the addresses of Services and sets. What a kubelet makes
// (KUBE-IPTABLES-HINT, KUBE-KUBELET-CANARY, KUBE-FIREWALL, KUBE-MARK-*) is no proxy. Looking starts no program, except
// where tables of iptables-legacy exist, which can be listed in no other way.
//
// Whether kube-proxy runs is known for certain only where it answers at one of its usual ports, or where all processes of
// the node can be seen. A container on the network of the host that sees only its own processes cannot know of a
// kube-proxy that listens elsewhere; the answer is Unknown then, and never a guess.
package foreignproxy
