package conntrack_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// plan is the addresses of the vectors in one family.
type plan struct {
	clusterIP, loadBalancerIP, externalIP, otherClusterIP string
	node, loopback, otherNode                             string
	serving, draining, broken, gone                       string
	serviceCIDR                                           string
}

var plans = map[string]plan{
	"IPv4": {
		clusterIP: "172.30.1.1", loadBalancerIP: "1.2.3.4", externalIP: "192.168.99.100", otherClusterIP: "172.30.1.2",
		node: "192.168.0.2", loopback: "127.0.0.1", otherNode: "192.168.0.3",
		serving: "10.240.0.4", draining: "10.240.0.5", broken: "10.240.1.5", gone: "10.240.2.6",
		serviceCIDR: "172.30.0.0/16",
	},
	"IPv6": {
		clusterIP: "fd00:30::1:1", loadBalancerIP: "2001:db8:1::4", externalIP: "2001:db8:99::100", otherClusterIP: "fd00:30::1:2",
		node: "2001:db8::2", loopback: "::1", otherNode: "2001:db8::3",
		serving: "fd00:240::4", draining: "fd00:240::5", broken: "fd00:240:1::5", gone: "fd00:240:2::6",
		serviceCIDR: "fd00:30::/108",
	},
}

const (
	port, nodePort, targetPort = 8000, 32000, 9090
	strangePort                = 3000
	oldTargetPort              = 8080
)

func at(addr string, port int) string {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port)).String()
}

// service is a UDP Service with a frontend of each kind.
func (p plan) service() *forwarding.Service {
	addrs := func(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }
	return &forwarding.Service{
		Name:       types.NamespacedName{Namespace: "default", Name: "udp"},
		ClusterIPs: addrs(p.clusterIP), LoadBalancerIPs: addrs(p.loadBalancerIP), ExternalIPs: addrs(p.externalIP),
		Ports: []forwarding.Port{{Protocol: forwarding.UDP, Port: port, NodePort: nodePort}},
	}
}

func slice(endpoints ...forwarding.Endpoint) *forwarding.Slice {
	return &forwarding.Slice{Ports: []forwarding.SlicePort{{Protocol: forwarding.UDP, Port: targetPort}}, Endpoints: endpoints}
}

func endpoint(addr string) forwarding.Endpoint {
	return forwarding.Endpoint{Addr: netip.MustParseAddr(addr), Ready: true, Serving: true}
}

func drainingEndpoint(addr string) forwarding.Endpoint {
	return forwarding.Endpoint{Addr: netip.MustParseAddr(addr), Serving: true, Terminating: true}
}

func brokenEndpoint(addr string) forwarding.Endpoint {
	return forwarding.Endpoint{Addr: netip.MustParseAddr(addr)}
}

// proxy is a forwarding table and the Cleaner behind it.
type proxy struct {
	view    conntrack.View
	cleaner *conntrack.Cleaner
}

func newProxy(serviceCIDRs ...string) *proxy {
	p := &proxy{view: conntrack.View{Table: forwarding.NewTable()}, cleaner: conntrack.NewCleaner()}
	for _, cidr := range serviceCIDRs {
		p.view.ServiceCIDRs = append(p.view.ServiceCIDRs, netip.MustParsePrefix(cidr))
	}
	return p
}

// update takes in a Service and its slices; a nil Service is one that is gone.
func (p *proxy) update(name types.NamespacedName, svc *forwarding.Service, slices ...*forwarding.Slice) {
	var ports []*forwarding.ServicePort
	if svc != nil {
		ports, _ = forwarding.Compute(svc, slices, &forwarding.Node{})
	}
	p.cleaner.Note(p.view.Table.Update(name, 0, ports))
}

func (p *proxy) flush(ctx context.Context) int {
	GinkgoHelper()
	deleted, err := p.cleaner.Flush(ctx, p.view)
	Expect(err).NotTo(HaveOccurred())
	return deleted
}

// vector is a flow, and whether it is kept when a Service comes to be in some state.
type vector struct {
	flow
	serving, nobody, deleted bool
}

const (
	keep = true
	drop = false
)

func (p plan) vectors() []vector {
	var vectors []vector
	add := func(to, from string, serving, nobody, deleted bool) {
		vectors = append(vectors, vector{udp(to, from), serving, nobody, deleted})
		// Other protocols are never touched.
		vectors = append(vectors, vector{flow{forwarding.TCP, to, from}, keep, keep, keep},
			vector{flow{forwarding.SCTP, to, from}, keep, keep, keep})
	}
	//   to           answered by                          serving nobody deleted
	for _, frontend := range []string{at(p.clusterIP, port), at(p.loadBalancerIP, port), at(p.externalIP, port),
		at(p.node, nodePort), at(p.loopback, nodePort)} {
		add(frontend, at(p.serving, targetPort) /*       */, keep, drop, drop)
		add(frontend, at(p.draining, targetPort) /*      */, keep, drop, drop)
		add(frontend, at(p.broken, targetPort) /*        */, drop, drop, drop)
		add(frontend, at(p.gone, targetPort) /*          */, drop, drop, drop)
		add(frontend, at(p.serving, oldTargetPort) /*    */, drop, drop, drop)
		add(frontend, frontend /*                        */, drop, drop, drop)
	}
	for _, other := range []string{at(p.clusterIP, strangePort), at(p.loadBalancerIP, strangePort), at(p.externalIP, strangePort),
		at(p.clusterIP, nodePort), at(p.otherNode, nodePort), at(p.node, strangePort), at(p.gone, targetPort)} {
		add(other, at(p.serving, targetPort) /*          */, keep, keep, keep)
		add(other, at(p.gone, targetPort) /*             */, keep, keep, keep)
		add(other, other /*                              */, keep, keep, keep)
	}
	return vectors
}

var _ = Describe("stale flows", func() {
	for family, p := range plans {
		for _, filtered := range []bool{true, false} {
			name := family
			if !filtered {
				name += ", on a kernel without filters"
			}
			svc := p.service()

			DescribeTable(name, func(ctx context.Context, kept func(vector) bool, change func(*proxy)) {
				Expect(enterNamespace(netip.MustParseAddr(p.node))).To(Succeed())
				proxy := newProxy(p.serviceCIDR)
				if !filtered {
					proxy.cleaner.WithoutFilters()
				}
				proxy.update(svc.Name, svc, slice(endpoint(p.serving), endpoint(p.draining), endpoint(p.broken), endpoint(p.gone)))
				Expect(proxy.flush(ctx)).To(BeZero(), "before there is a flow")

				var all, remaining []flow
				for _, v := range p.vectors() {
					all = append(all, v.flow)
					if kept(v) {
						remaining = append(remaining, v.flow)
					}
				}
				Expect(insert(all...)).To(Succeed())
				Expect(proxy.flush(ctx)).To(BeZero(), "before anything changed")

				change(proxy)
				deleted := proxy.flush(ctx)
				found, err := flows()
				Expect(err).NotTo(HaveOccurred())
				Expect(cmp.Diff(texts(remaining), texts(found))).To(BeEmpty(), "flows (-want +got)")
				Expect(deleted).To(Equal(len(all)-len(remaining)), "flows counted as deleted")
				Expect(proxy.flush(ctx)).To(BeZero(), "once it is done")
			},
				Entry("endpoints break, drain and go", func(v vector) bool { return v.serving }, func(proxy *proxy) {
					proxy.update(svc.Name, svc, slice(endpoint(p.serving), drainingEndpoint(p.draining), brokenEndpoint(p.broken)))
				}),
				Entry("nobody serves any more", func(v vector) bool { return v.nobody }, func(proxy *proxy) {
					proxy.update(svc.Name, svc, slice(brokenEndpoint(p.broken)))
				}),
				Entry("the Service is gone", func(v vector) bool { return v.deleted }, func(proxy *proxy) {
					proxy.update(svc.Name, nil)
				}),
				Entry("an endpoint comes", func(vector) bool { return true }, func(proxy *proxy) {
					proxy.update(svc.Name, svc, slice(endpoint(p.serving), endpoint(p.draining), endpoint(p.broken), endpoint(p.gone),
						endpoint(p.otherNode)))
				}),
				Entry("a restart, after which everything is examined", func(v vector) bool { return v.serving }, func(proxy *proxy) {
					proxy.update(svc.Name, svc, slice(endpoint(p.serving), drainingEndpoint(p.draining), brokenEndpoint(p.broken)))
					proxy.cleaner.NoteAll()
					proxy.view.ServiceCIDRs = nil
				}),
				Entry("a restart, with the range of cluster IPs known", func(v vector) bool {
					to := netip.MustParseAddrPort(v.to)
					unknown := v.protocol == forwarding.UDP && to.Addr() == netip.MustParseAddr(p.clusterIP) && to.Port() != port
					return v.serving && !unknown
				}, func(proxy *proxy) {
					proxy.update(svc.Name, svc, slice(endpoint(p.serving), drainingEndpoint(p.draining), brokenEndpoint(p.broken)))
					proxy.cleaner.NoteAll()
				}),
			)
		}
	}
})

var _ = Describe("Cleaner", func() {
	p := plans["IPv4"]
	svc := p.service()
	toGone := udp(at(p.clusterIP, port), at(p.gone, targetPort))

	It("leaves the Services of another proxy alone", func(ctx context.Context) {
		Expect(enterNamespace()).To(Succeed())
		proxy := newProxy(p.serviceCIDR)
		ours, foreign := p.service(), p.service()
		foreign.Foreign = true
		proxy.update(svc.Name, foreign)
		Expect(insert(toGone)).To(Succeed())
		Expect(proxy.flush(ctx)).To(BeZero(), "after a start")

		proxy.update(svc.Name, ours, slice(endpoint(p.gone)))
		Expect(proxy.flush(ctx)).To(BeZero(), "when it becomes ours, and the flow is right")
		proxy.update(svc.Name, foreign)
		Expect(proxy.flush(ctx)).To(BeZero(), "when it is handed over")
		proxy.update(svc.Name, ours)
		Expect(proxy.flush(ctx)).To(Equal(1), "when it becomes ours, and the flow leads nowhere")
	})

	It("hands an address over to the Service that inherits it", func(ctx context.Context) {
		Expect(enterNamespace()).To(Succeed())
		proxy := newProxy(p.serviceCIDR)
		heir := p.service()
		heir.Name.Name, heir.ClusterIPs = "heir", []netip.Addr{netip.MustParseAddr(p.otherClusterIP)}
		proxy.update(svc.Name, svc, slice(endpoint(p.gone)))
		proxy.update(heir.Name, heir, slice(endpoint(p.serving)))
		Expect(proxy.flush(ctx)).To(BeZero())

		held := udp(at(p.externalIP, port), at(p.serving, targetPort))
		Expect(insert(toGone, udp(at(p.externalIP, port), at(p.gone, targetPort)), held)).To(Succeed())
		proxy.update(svc.Name, nil)
		Expect(proxy.flush(ctx)).To(Equal(2))
		Expect(flows()).To(ConsistOf(held))
	})

	It("keeps what is pending until a flush succeeds", func(ctx context.Context) {
		Expect(enterNamespace()).To(Succeed())
		proxy := newProxy(p.serviceCIDR)
		proxy.update(svc.Name, svc, slice(endpoint(p.serving), endpoint(p.broken), endpoint(p.gone)))
		Expect(proxy.flush(ctx)).To(BeZero())
		toBroken, toServing := udp(at(p.clusterIP, port), at(p.broken, targetPort)), udp(at(p.clusterIP, port), at(p.serving, targetPort))
		Expect(insert(toGone, toBroken, toServing)).To(Succeed())

		By("a sync that fails, so that nothing is flushed, and another one")
		proxy.update(svc.Name, svc, slice(endpoint(p.serving), endpoint(p.broken)))
		proxy.update(svc.Name, svc, slice(endpoint(p.serving)))
		By("a flush that fails")
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		_, err := proxy.cleaner.Flush(canceled, proxy.view)
		Expect(err).To(MatchError(context.Canceled))
		Expect(flows()).To(ConsistOf(toGone, toBroken, toServing))
		By("a change that has no part in it")
		proxy.update(svc.Name, svc, slice(endpoint(p.serving), endpoint(p.draining)))

		Expect(proxy.flush(ctx)).To(Equal(2))
		Expect(flows()).To(ConsistOf(toServing))
	})

	It("knows what went between a start and the first sync that succeeds", func(ctx context.Context) {
		Expect(enterNamespace()).To(Succeed())
		proxy := newProxy()
		proxy.update(svc.Name, svc, slice(endpoint(p.serving)))
		Expect(insert(udp(at(p.externalIP, port), at(p.serving, targetPort)))).To(Succeed())
		proxy.update(svc.Name, nil)
		Expect(proxy.flush(ctx)).To(Equal(1))
	})

	It("looks for node ports only where they are open", func(ctx context.Context) {
		Expect(enterNamespace(netip.MustParseAddr(p.node))).To(Succeed())
		proxy := newProxy(p.serviceCIDR)
		proxy.view.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/24")}
		proxy.update(svc.Name, svc, slice(endpoint(p.gone)))
		Expect(proxy.flush(ctx)).To(BeZero())
		notOurs := udp(at(p.loopback, nodePort), at(p.loopback, nodePort))
		Expect(insert(udp(at(p.node, nodePort), at(p.gone, targetPort)), notOurs)).To(Succeed())
		proxy.update(svc.Name, svc)
		Expect(proxy.flush(ctx)).To(Equal(1))
		Expect(flows()).To(ConsistOf(notOurs))
	})

	It("ends flows of node ports where those are closed", func(ctx context.Context) {
		const second = "192.168.1.2"
		Expect(enterNamespace(netip.MustParseAddr(p.node), netip.MustParseAddr(second))).To(Succeed())
		proxy := newProxy(p.serviceCIDR)
		proxy.update(svc.Name, svc, slice(endpoint(p.serving)))
		Expect(proxy.flush(ctx)).To(BeZero())
		stays := []flow{
			udp(at(p.node, nodePort), at(p.serving, targetPort)),
			udp(at(second, nodePort), at(second, nodePort)),
			udp(at(second, nodePort), at(p.gone, targetPort)), // translated, and not by this Service
			udp(at(second, strangePort), at(p.serving, targetPort)),
			udp(at(p.otherNode, nodePort), at(p.serving, targetPort)),
		}
		Expect(insert(append(slices.Clone(stays), udp(at(second, nodePort), at(p.serving, targetPort)))...)).To(Succeed())
		proxy.view.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix(p.node + "/32")}
		proxy.cleaner.NoteAll()
		Expect(proxy.flush(ctx)).To(Equal(1))
		found, err := flows()
		Expect(err).NotTo(HaveOccurred())
		Expect(texts(found)).To(ConsistOf(texts(stays)))
	})

	It("finds the flows of many Services, and no others", func(ctx context.Context) {
		Expect(enterNamespace()).To(Succeed())
		proxy := newProxy("172.30.0.0/16")
		const services, strangers = 100, 10000
		var others, stale []flow
		for i := range strangers {
			others = append(others, udp(fmt.Sprintf("198.51.%d.%d:53", i/250, i%250+1), fmt.Sprintf("198.51.%d.%d:53", i/250, i%250+1)))
		}
		many := make([]*forwarding.Service, services)
		for i := range many {
			many[i] = &forwarding.Service{
				Name:       types.NamespacedName{Namespace: "default", Name: fmt.Sprint("udp-", i)},
				ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{172, 30, 2, byte(i)})},
				Ports:      []forwarding.Port{{Protocol: forwarding.UDP, Port: port}},
			}
			proxy.update(many[i].Name, many[i], slice(endpoint(p.serving), endpoint(p.gone)))
			to := at(fmt.Sprint("172.30.2.", i), port)
			others = append(others, udp(to, at(p.serving, targetPort)))
			stale = append(stale, udp(to, at(p.gone, targetPort)), udp(to, at(p.gone, targetPort)), udp(to, at(p.gone, targetPort)))
		}
		Expect(insert(append(slices.Clone(others), stale...)...)).To(Succeed())
		Expect(proxy.flush(ctx)).To(BeZero())
		for _, svc := range many {
			proxy.update(svc.Name, svc, slice(endpoint(p.serving)))
		}
		Expect(proxy.flush(ctx)).To(Equal(len(stale)))
		found, err := flows()
		Expect(err).NotTo(HaveOccurred())
		Expect(cmp.Diff(texts(others), texts(found))).To(BeEmpty(), "flows (-want +got)")
	})
})
