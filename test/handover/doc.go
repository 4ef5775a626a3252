// Package handover tests the hand-over of nodes from kube-proxy and back, as docs/handover.md describes it, with real
// kube-proxy processes and traffic that never stops.
package handover
