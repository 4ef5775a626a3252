// Package cluster is a real Kubernetes cluster on one machine, without kubelets and containers, for tests, demos and
// benchmarks of everything that happens between the API server and a packet.
//
// etcd, kube-apiserver and kube-controller-manager are the real programs. Nodes, pods and clients are network
// namespaces joined by veth pairs and bridges, so that what a proxy programs on a node is tried by a real kernel:
//
//	          outside 203.0.113.2 ── 203.0.113.1 ┐
//	                                             │ fabric: router, and the LAN 192.168.77.0/24
//	    ┌───────────────────┬────────────────────┴──────┐
//	control plane        node a                      node b
//	192.168.77.2         192.168.77.11               192.168.77.12
//	etcd                 cni0 10.244.1.1/24          cni0 10.244.2.1/24
//	kube-apiserver :6443  ├ pod 10.244.1.2            ├ pod 10.244.2.2
//	kube-controller-      └ pod 10.244.1.3            └ pod 10.244.2.3
//	manager
//
// Every address has an IPv6 twin: LAN fd77::/64, pods fd00:10:244:N::/64, outside 2001:db8:113::/64. Service
// addresses come from 10.96.0.0/16 and fd00:10:96::/112; nobody translates them but the proxy under test.
//
// A pod is a namespace with a small server that says which pod it is and which client address it sees. The cluster
// does for it what a kubelet would: it reports the pod Running and Ready, and kube-controller-manager makes the
// EndpointSlices. So a test reads like what it tests:
//
//	c, err := cluster.Start(ctx, cluster.Options{Nodes: []string{"a", "b"}})
//	DeferCleanup(c.Stop)
//	pod, err := c.RunPod(ctx, cluster.PodSpec{
//		Name: "web", Node: "b", Labels: map[string]string{"app": "web"},
//		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
//	})
//	reply, err := c.Node("a").Ask(ctx, "tcp", "10.96.0.80:80") // reply.Pod == "web"
//
// A main program uses Run, which also stops the cluster on SIGINT and SIGTERM. It needs root, and the programs that
// `make controlplane` builds.
//
// Nodes that need IPVS, where the kernel of this machine has none, are in a virtual machine (test/kernel), and the control
// plane is outside, where it starts in seconds. A package of such tests says
//
//	func TestMain(m *testing.M) { os.Exit(cluster.Main(m, cluster.Options{})) }
//
// and has Join in the place of Start. A main program calls Again unless it is Invited, and Run if it is:
//
//	if !cluster.Invited() {
//		status, err := cluster.Again(ctx, cluster.Options{})
//		...
//		os.Exit(status)
//	}
//	err := cluster.Run(ctx, cluster.Options{Nodes: []string{"a", "b"}}, tell)
//
// Nothing is left behind. Namespaces have no name and no mount: they exist as long as this process holds them. Child
// processes get SIGKILL when it dies. All files are in one folder, which the next Start removes if a killed process
// could not.
package cluster
