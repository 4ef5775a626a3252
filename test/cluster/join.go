package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	corev1 "k8s.io/api/core/v1"

	"github.com/serviceproxy/service-proxy-operator/test/kernel"
	"github.com/serviceproxy/service-proxy-operator/test/relay"
)

// invitationVariable holds the invitation of the process that started this one.
const invitationVariable = "SERVICE_PROXY_TEST_CLUSTER"

// invitation is what a process needs to know to join the control plane of another one.
type invitation struct {
	Families                    []corev1.IPFamily
	Address                     string // of the API server, for the process that holds it
	Authority, Certificate, Key []byte
}

// Invited says whether this process runs inside Again: there is a control plane to Join.
func Invited() bool { return os.Getenv(invitationVariable) != "" }

// Main is for TestMain of a package whose tests need a cluster on a kernel that has IPVS (test/kernel): it starts a
// control plane on this machine, and runs the tests where IPVS is. They Join the control plane with nodes of their own. It
// returns the status to exit with.
func Main(m interface{ Run() int }, options Options) int {
	if Invited() {
		return m.Run()
	}
	status, err := Again(context.Background(), options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// Again starts a cluster, runs this very program once more on a kernel that has IPVS (kernel.Again), where it is Invited to
// join the control plane, stops the cluster, and returns the exit status of the program. SIGINT and SIGTERM end the
// program too.
func Again(ctx context.Context, options Options) (status int, err error) {
	err = Run(ctx, options, func(ctx context.Context, c *Cluster) error {
		p := c.controlPlane
		i := invitation{
			Address: p.forwarder.Address(), Authority: p.authority.certificate, Certificate: p.admin.certificate, Key: p.admin.key,
		}
		for _, network := range c.networks {
			i.Families = append(i.Families, network.family)
		}
		text, err := json.Marshal(i)
		if err != nil {
			return fmt.Errorf("writing an invitation to the cluster: %w", err)
		}
		status, err = kernel.Again(ctx, kernel.Program{
			Env:   []string{invitationVariable + "=" + string(text)},
			Reach: []string{i.Address},
		})
		return err
	})
	return status, err
}

// Join is Start with the control plane that Again has started, whose IP families and controllers are those of this
// cluster too. It has nodes and pods of its own, and on its LAN the API server answers where it always does. Stop leaves
// objects in the API; StopAPIServer and StartAPIServer fail.
func Join(ctx context.Context, options Options) (*Cluster, error) {
	c := newCluster()
	if err := c.join(ctx, options); err != nil {
		return nil, errors.Join(fmt.Errorf("joining the cluster: %w", err), c.Stop())
	}
	return c, nil
}

func (c *Cluster) join(ctx context.Context, options Options) error {
	var i invitation
	if err := json.Unmarshal([]byte(os.Getenv(invitationVariable)), &i); err != nil {
		return fmt.Errorf("reading $%s, which cluster.Again sets: %w", invitationVariable, err)
	}
	options.IPFamilies = i.Families
	programs, err := c.prepare(options)
	if err != nil {
		return err
	}
	if err := c.attachControlPlane(programs); err != nil {
		return err
	}
	if err := c.controlPlane.join(ctx, i); err != nil {
		return err
	}
	nodes, err := c.newNodes(options.Nodes)
	if err != nil {
		return err
	}
	return c.register(ctx, nodes)
}

// join makes the API server of the invitation reachable at the addresses of one that runs here.
func (p *controlPlane) join(ctx context.Context, i invitation) error {
	p.authority = &authority{keyPair: keyPair{certificate: i.Authority}}
	p.admin = keyPair{certificate: i.Certificate, key: i.Key}
	dial := func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", kernel.Reached(i.Address))
	}
	listener, err := p.host.Listen(ctx, "tcp", p.lanAddress())
	if err != nil {
		return fmt.Errorf("listening for clients of the API server: %w", err)
	}
	p.lan = relay.Start(listener, dial)
	return p.open(dial)
}
