package plugin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
)

// serveExec has every node serve exec, as its kubelet does, until the end of the spec: kube-apiserver finds the port in the
// status of the Node, and what it is asked to run in the Pod of the agent runs on the node, as a container of the host
// network with the agent's folder would have it.
func serveExec(ctx context.Context) {
	GinkgoHelper()
	for _, node := range world.Nodes() {
		listener, err := node.Listen(ctx, "tcp", net.JoinHostPort(node.Addresses()[0].String(), "0"))
		Expect(err).NotTo(HaveOccurred())
		server := httptest.NewUnstartedServer(&streamer{node: node})
		Expect(server.Listener.Close()).To(Succeed())
		server.Listener = listener
		server.TLS = &tls.Config{ClientAuth: tls.NoClientCert, RootCAs: x509.NewCertPool(), NextProtos: []string{"http/1.1"}}
		server.StartTLS()
		DeferCleanup(server.Close)
		reachAt(ctx, node, listener.Addr().(*net.TCPAddr).Port)
	}
}

// reachAt registers the port of a kubelet. The host name of a Node, at which the API server would look for it first, is in no
// DNS here.
func reachAt(ctx context.Context, node *cluster.Node, port int) {
	GinkgoHelper()
	var object corev1.Node
	Expect(world.Client().Get(ctx, client.ObjectKey{Name: node.Name}, &object)).To(Succeed())
	before := object.DeepCopy()
	object.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(port)
	object.Status.Addresses = nil
	for _, a := range before.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			object.Status.Addresses = append(object.Status.Addresses, a)
		}
	}
	Expect(world.Client().Status().Patch(ctx, &object, client.MergeFrom(before))).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		var now corev1.Node
		Expect(world.Client().Get(ctx, client.ObjectKey{Name: node.Name}, &now)).To(Succeed())
		changed := now.DeepCopy()
		now.Status.DaemonEndpoints, now.Status.Addresses = before.Status.DaemonEndpoints, before.Status.Addresses
		Expect(world.Client().Status().Patch(ctx, &now, client.MergeFrom(changed))).To(Succeed())
	})
}

// streamer serves /exec/NAMESPACE/POD/CONTAINER.
type streamer struct{ node *cluster.Node }

func (s *streamer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(path) != 4 || path[0] != "exec" {
		http.NotFound(w, r)
		return
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	remotecommand.ServeExec(w, r, s, path[2], "", path[3], r.URL.Query()["command"], options,
		time.Minute, time.Minute, remotecommand.SupportedStreamingProtocols)
}

// ExecInContainer runs the agent's program with the agent's folder, and nothing else.
func (s *streamer) ExecInContainer(ctx context.Context, pod, _, container string, command []string, _ io.Reader, out, errOut io.WriteCloser,
	_ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	if pod != "service-proxy-agent-"+s.node.Name || container != "agent" || command[0] != "/agent" {
		return fmt.Errorf("no container %s of pod %s on node %s has %s", container, pod, s.node.Name, command[0])
	}
	folder, err := s.node.Dir()
	if err != nil {
		return err
	}
	args := append(command[1:len(command):len(command)], "--state-dir="+filepath.Join(folder, "service-proxy"))
	cmd := exec.CommandContext(ctx, setup.AgentProgram(), args...)
	cmd.Stdout, cmd.Stderr = out, errOut
	if err := s.node.Do(cmd.Start); err != nil {
		return err
	}
	err = cmd.Wait()
	if exit, ended := errors.AsType[*exec.ExitError](err); ended {
		return utilexec.CodeExitError{Err: exit, Code: exit.ExitCode()}
	}
	return err
}
