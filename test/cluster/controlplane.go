package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/serviceproxy/service-proxy-operator/test/cluster/binaries"
	"github.com/serviceproxy/service-proxy-operator/test/relay"
)

const (
	apiServerPort  = 6443
	etcdURL        = "http://127.0.0.1:2379" // in the network namespace of the control plane
	apiServerGrace = 30 * time.Second
	probeInterval  = 20 * time.Millisecond
	issuer         = "https://kubernetes.default.svc"
)

// controlPlane is etcd, kube-apiserver and kube-controller-manager on a host of their own.
type controlPlane struct {
	host      *Host
	networks  []addresses // the first is the primary IP family
	programs  programs
	dir       *workdir
	authority *authority
	admin     keyPair
	forwarder *relay.Relay // at an address of the machine
	lan       *relay.Relay // at its address of the LAN, if it runs elsewhere
	apiServer *Process     // nil if it runs elsewhere
}

// programs are the paths of the programs a cluster runs.
type programs map[binaries.Program]string

// findPrograms returns the paths of the programs a cluster runs.
func findPrograms() (programs, error) {
	cache, err := binaries.Open()
	if err != nil {
		return nil, err
	}
	found := programs{}
	for _, p := range binaries.ControlPlane() {
		if found[p], err = cache.Find(p); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// prepare writes certificates and kubeconfigs and makes the API server reachable from the machine.
func (p *controlPlane) prepare(now time.Time) (err error) {
	if p.authority, err = newAuthority(now); err != nil {
		return err
	}
	// The service account key pair is a key pair like any other: the API server takes the public key from a certificate.
	accounts, err := p.authority.client("service-accounts")
	if err != nil {
		return err
	}
	reached := append([]netip.Addr{netip.MustParseAddr("127.0.0.1")}, p.host.Addresses()...)
	for _, network := range p.networks {
		reached = append(reached, numbered(network.services, 1).Addr())
	}
	serving, err := p.authority.server([]string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}, reached)
	if err != nil {
		return err
	}
	if p.admin, err = p.authority.client("admin", "system:masters"); err != nil {
		return err
	}
	for name, pair := range map[string]keyPair{"ca": p.authority.keyPair, "apiserver": serving, "accounts": accounts} {
		if err := pair.write(p.dir.path("pki"), name); err != nil {
			return err
		}
	}
	return p.open(func(ctx context.Context) (net.Conn, error) { return p.host.Dial(ctx, "tcp", p.lanAddress()) })
}

// open makes the API server reachable from the machine, and writes kubeconfigs.
func (p *controlPlane) open(dial func(context.Context) (net.Conn, error)) error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for clients of the API server: %w", err)
	}
	p.forwarder = relay.Start(listener, dial)
	user := &clientcmdapi.AuthInfo{ClientCertificateData: p.admin.certificate, ClientKeyData: p.admin.key}
	return errors.Join(
		writeKubeconfig(p.dir.path("admin.kubeconfig"), p.url(), p.authority.certificate, user),
		writeKubeconfig(p.dir.path("admin-lan.kubeconfig"), p.lanURL(), p.authority.certificate, user))
}

// url returns where the API server is reached from the machine.
func (p *controlPlane) url() string { return "https://" + p.forwarder.Address() }

// lanAddress returns where the API server listens: an address and a port of the LAN.
func (p *controlPlane) lanAddress() string {
	address := numbered(p.networks[0].lan, controlPlaneNumber).Addr()
	return netip.AddrPortFrom(address, apiServerPort).String()
}

func (p *controlPlane) lanURL() string { return "https://" + p.lanAddress() }

// restConfig returns the access of an administrator from the machine, without client-side rate limits.
func (p *controlPlane) restConfig() *rest.Config {
	return &rest.Config{
		Host: p.url(),
		TLSClientConfig: rest.TLSClientConfig{
			CAData: p.authority.certificate, CertData: p.admin.certificate, KeyData: p.admin.key,
		},
		QPS: -1,
	}
}

func (p *controlPlane) startEtcd() error {
	_, err := p.host.Start(ProcessSpec{Path: p.programs[binaries.Etcd], Args: []string{
		"--data-dir=" + p.dir.path("etcd"),
		"--unsafe-no-fsync",
		"--listen-client-urls=" + etcdURL,
		"--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--quota-backend-bytes=8589934592",
		"--log-level=warn",
	}})
	return err
}

// errElsewhere is the error of stopping and starting an API server that another process holds.
var errElsewhere = errors.New("the control plane is not ours: it was there to be joined")

// launchAPIServer starts kube-apiserver without waiting for it.
func (p *controlPlane) launchAPIServer() (err error) {
	if p.lan != nil {
		return errElsewhere
	}
	var services []string
	for _, network := range p.networks {
		services = append(services, network.services.String())
	}
	address := numbered(p.networks[0].lan, controlPlaneNumber).Addr().String()
	pki := func(name string) string { return p.dir.path("pki", name) }
	p.apiServer, err = p.host.Start(ProcessSpec{Path: p.programs[binaries.KubeAPIServer], Args: []string{
		"--etcd-servers=" + etcdURL,
		"--bind-address=" + address,
		"--advertise-address=" + address,
		fmt.Sprintf("--secure-port=%d", apiServerPort),
		"--service-cluster-ip-range=" + strings.Join(services, ","),
		"--authorization-mode=Node,RBAC",
		"--allow-privileged=true",
		// Pods get no token mounted and nodes are ready at once, so neither has to wait for a controller.
		"--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
		"--client-ca-file=" + pki("ca.crt"),
		"--tls-cert-file=" + pki("apiserver.crt"),
		"--tls-private-key-file=" + pki("apiserver.key"),
		"--service-account-issuer=" + issuer,
		"--service-account-key-file=" + pki("accounts.crt"),
		"--service-account-signing-key-file=" + pki("accounts.key"),
		// Without it, an API server that is to end waits a minute for its watches.
		"--shutdown-watch-termination-grace-period=1s",
		"--profiling=false",
	}})
	return err
}

// waitForAPIServer waits until the API server is ready.
func (p *controlPlane) waitForAPIServer(ctx context.Context) error {
	transport, err := rest.TransportFor(p.restConfig())
	if err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	client := &http.Client{Transport: transport, Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	poll := time.NewTicker(probeInterval)
	defer poll.Stop()
	for {
		last := probe(ctx, client, p.url()+"/readyz")
		if last == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-p.apiServer.Done():
			return p.apiServer.Wait(ctx)
		case <-ctx.Done():
			return fmt.Errorf("waiting for the API server: %w: %w; its last lines:\n%s", ctx.Err(), last, p.apiServer.Tail(10))
		}
	}
}

// probe returns nil when the URL answers 200.
func probe(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(body)))
	}
	return err
}

// controllers returns those of kube-controller-manager that have something to do where the cluster itself plays the
// kubelets. Nobody judges the health of nodes, since nobody reports it.
func controllers() []string {
	return []string{
		"endpointslice-controller",
		"endpointslice-mirroring-controller",
		"service-cidr-controller",
		"namespace-controller",
		"serviceaccount-controller",
		"serviceaccount-token-controller",
		"root-ca-certificate-publisher-controller",
		"clusterrole-aggregation-controller",
		"garbage-collector-controller",
		"validatingadmissionpolicy-status-controller",
	}
}

func (p *controlPlane) startControllerManager(more []string) error {
	enabled := slices.Concat(controllers(), more)
	_, err := p.host.Start(ProcessSpec{Path: p.programs[binaries.KubeControllerManager], Args: []string{
		"--kubeconfig=" + p.dir.path("admin-lan.kubeconfig"),
		"--controllers=" + strings.Join(enabled, ","),
		"--leader-elect=false",
		"--service-account-private-key-file=" + p.dir.path("pki", "accounts.key"),
		"--root-ca-file=" + p.dir.path("pki", "ca.crt"),
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
		"--bind-address=127.0.0.1",
		"--profiling=false",
	}})
	return err
}

// stopAPIServer ends kube-apiserver as an upgrade would: with SIGTERM, so that it closes its watches.
func (p *controlPlane) stopAPIServer(ctx context.Context) error {
	if p.lan != nil {
		return errElsewhere
	}
	return p.apiServer.stop(ctx, apiServerGrace)
}

// close kills what runs: it has nothing to save.
func (p *controlPlane) close() error {
	for _, r := range []*relay.Relay{p.forwarder, p.lan} {
		if r != nil {
			r.Close()
		}
	}
	p.host.kill()
	return errors.Join(p.host.close(), os.RemoveAll(p.dir.path("etcd")))
}
