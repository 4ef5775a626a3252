// Package iptables makes the tables of iptables match a forwarding table.
//
// It renders Service ports into chains (render.go, fixed.go), finds a packet's Service through trees of chains
// (package dispatch), has only the chains written that differ (package xtables), and can
// compare all of it with what the kernel holds (engine.go).
//
// Everything it makes is named SPROXY-*, and it never touches anything else:
//
//	nat  PREROUTING, OUTPUT -> SPROXY-SERVICES
//	                             -> SPROXY-OFFCLUSTER      marks for masquerading what no local pod sent
//	                             -> SPROXY-ADDRESSES       tree over cluster, external and load balancer IPs
//	                             -> SPROXY-NODEPORTS       tree over node ports
//	                                  -> SPROXY-C-*, -L-*  backends of one Service port: cluster or local pool
//	                                  -> SPROXY-X-*        by class of client, where it makes a difference
//	                                  -> SPROXY-F-*        allowed sources
//	     POSTROUTING        -> SPROXY-POSTROUTING          masquerades what is marked, and hairpins
//	filter INPUT, OUTPUT, FORWARD (new connections) -> SPROXY-FILTER
//	                             -> SPROXY-RANGE           rejects what no Service in the cluster IP range takes
//	                             -> SPROXY-CLOSED          rejects or drops at other addresses
//	                             -> SPROXY-CLOSEDPORTS     rejects or drops at node ports
//	     FORWARD            -> SPROXY-FORWARD              lets Service traffic pass
//	     INPUT              -> SPROXY-INPUT                lets health checks in, keeps others from 127.0.0.0/8
package iptables
