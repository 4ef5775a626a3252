// Package v1alpha1 holds the two kinds of group serviceproxy.io.
//
// A ServiceProxyConfig is written by people and Git and describes one pool of nodes: which nodes, and how Services
// are programmed on them. A ServiceProxyNode is one node of such a pool: its spec is written by the operator alone,
// its status by the agent on that node alone.
//
// The package holds types, markers and documented constants, and no logic.
//
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +kubebuilder:ac:output:package=../applyconfiguration
// +groupName=serviceproxy.io
package v1alpha1
