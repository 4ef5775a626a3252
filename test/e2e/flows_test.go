package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/serviceproxy/service-proxy-operator/test/cluster"
	"github.com/serviceproxy/service-proxy-operator/test/traffic"
)

// talk is a UDP client that goes on sending from one port, so that to the kernel all it sends is one flow.
type talk struct {
	conn *net.UDPConn
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	answers []said
}

// said is who answered, and when.
type said struct {
	pod string
	at  time.Time
}

// startTalk sends a datagram every few milliseconds, until the end of the spec or until the talk is over.
func startTalk(ctx context.Context, from *cluster.Host, to string) *talk {
	GinkgoHelper()
	conn, err := from.Dial(ctx, "udp", to)
	Expect(err).NotTo(HaveOccurred())
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	t := &talk{conn: conn.(*net.UDPConn), stop: stop, done: make(chan struct{})}
	DeferCleanup(t.isOver)
	go t.listen()
	go t.speak(ctx)
	return t
}

func (t *talk) speak(ctx context.Context) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			_ = t.conn.Close()
			return
		case <-ticker.C:
		}
		_, _ = fmt.Fprint(t.conn, n) // That nobody is there may be reported here; it is no reason to stop.
	}
}

func (t *talk) listen() {
	defer close(t.done)
	buffer := make([]byte, 512)
	for {
		n, err := t.conn.Read(buffer)
		switch pod, _, _ := strings.Cut(string(buffer[:n]), " "); {
		case err == nil:
			t.mu.Lock()
			t.answers = append(t.answers, said{pod, time.Now()})
			t.mu.Unlock()
		case errors.Is(err, net.ErrClosed):
			return
		}
	}
}

func (t *talk) isOver() {
	t.stop()
	<-t.done
}

// since is who answered after a time, each run of answers of one pod once.
func (t *talk) since(start time.Time) func() []string {
	return func() []string {
		t.mu.Lock()
		defer t.mu.Unlock()
		var pods []string
		for _, a := range t.answers {
			if a.at.After(start) {
				pods = append(pods, a.pod)
			}
		}
		return slices.Compact(pods)
	}
}

// partner is the one pod that answers.
func (t *talk) partner() string {
	GinkgoHelper()
	start := time.Now()
	Eventually(t.since(start)).Should(HaveLen(1))
	return t.since(start)()[0]
}

// flowsIn are the numbers of the flows of the talk that are addressed as it addresses them. No other flow ever gets the
// number of one, so that a flow that was ended and began anew is seen as another one.
func (t *talk) flowsIn(ctx context.Context, node *cluster.Node) []string {
	GinkgoHelper()
	from, to := t.conn.LocalAddr().(*net.UDPAddr), t.conn.RemoteAddr().(*net.UDPAddr)
	f := "ipv4"
	if to.IP.To4() == nil {
		f = "ipv6"
	}
	out, err := node.Run(ctx, "conntrack", "-L", "-f", f, "-p", "udp", "-o", "id",
		"--orig-port-src", fmt.Sprint(from.Port), "--orig-dst", to.IP.String(), "--orig-port-dst", fmt.Sprint(to.Port))
	Expect(err).NotTo(HaveOccurred())
	return flowNumber.FindAllString(out, -1)
}

var flowNumber = regexp.MustCompile(`\bid=\d+`)

// voicePod is a pod of Service voice.
func voicePod(name, node string) cluster.PodSpec {
	return cluster.PodSpec{
		Name: name, Node: node, Labels: map[string]string{"app": "voice"},
		Ports: []corev1.ContainerPort{
			{Name: "rtp", ContainerPort: 5004, Protocol: corev1.ProtocolUDP},
			{Name: "sip", ContainerPort: 5060},
		},
	}
}

// voice is a Service with UDP at every kind of address, and TCP at the same port.
const voice = `
apiVersion: v1
kind: Service
metadata: {name: voice}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  externalIPs: [198.51.100.53, "2001:db8:198::53"]
  selector: {app: voice}
  ports:
  - {name: rtp, port: 5000, protocol: UDP, targetPort: rtp, nodePort: 30500}
  - {name: sip, port: 5000, targetPort: sip, nodePort: 30500}
`

// talksToVoice starts talks with Service voice from everywhere: from pods and nodes to cluster IPs, and from outside to node
// ports and, where it exists, external IPs.
func talksToVoice(ctx context.Context) map[string]*talk {
	GinkgoHelper()
	talks := map[string]*talk{}
	for _, node := range world.Nodes() {
		for _, f := range []family{ipv4, ipv6} {
			name := node.Name + " " + string(f)
			talks["pod on "+name] = startTalk(ctx, pods["client-"+node.Name].Host, address(ctx, "voice", 5000, f))
			talks["node "+name] = startTalk(ctx, node.Host, address(ctx, "voice", 5000, f))
			talks["outside via "+name] = startTalk(ctx, world.Outside(), f.on(node.Host, 30500))
			external := map[family]string{ipv4: "198.51.100.53:5000", ipv6: "[2001:db8:198::53]:5000"}[f]
			talks["external IP on "+name] = startTalk(ctx, pods["client-"+node.Name].Host, external)
		}
	}
	return talks
}

// bystanders are flows that nobody may touch.
type bystanders struct {
	held  traffic.Connections
	talks []*talk
	known []string
	ctx   context.Context
}

// gatherBystanders holds TCP connections to Service voice, and has UDP talks with another Service and with a pod itself.
func gatherBystanders(ctx context.Context, held bool) *bystanders {
	GinkgoHelper()
	b := &bystanders{ctx: ctx}
	for _, node := range world.Nodes() {
		client := pods["client-"+node.Name].Host
		for _, f := range []family{ipv4, ipv6} {
			if held {
				connections, err := traffic.Hold(context.WithoutCancel(ctx), client, address(ctx, "voice", 5000, f), 4)
				Expect(err).NotTo(HaveOccurred())
				DeferCleanup(connections.Close)
				b.held = append(b.held, connections...)
			}
			b.talks = append(b.talks,
				startTalk(ctx, client, address(ctx, "web", 53, f)),
				startTalk(ctx, client, f.on(pods["web-nft-1"].Host, 5353)),
				startTalk(ctx, world.Outside(), f.on(node.Host, 30053)))
		}
	}
	for _, t := range b.talks {
		t.partner()
	}
	b.known = b.numbers()
	return b
}

func (b *bystanders) numbers() []string {
	GinkgoHelper()
	var all []string
	for _, node := range world.Nodes() {
		for _, t := range b.talks {
			all = append(all, t.flowsIn(b.ctx, node)...)
		}
	}
	slices.Sort(all)
	return all
}

// areLeftAlone expects that they go on as the flows that they were.
func (b *bystanders) areLeftAlone(gone ...string) {
	GinkgoHelper()
	Expect(b.known).NotTo(BeEmpty())
	Expect(b.numbers()).To(Equal(b.known))
	Expect(b.held.Broken(gone...)).To(Succeed())
}

// soon is how long a client that goes on sending may go unheard.
const soon = 15 * time.Second

var _ = Describe("A UDP flow that goes on", func() {
	It("moves to another pod when its pod goes, at every address", func(ctx context.Context) {
		applyForNow(ctx, voice)
		running, err := world.RunPods(ctx, voicePod("voice-1", nft), voicePod("voice-2", legacy))
		Expect(err).NotTo(HaveOccurred())
		for _, pod := range running {
			DeferCleanup(pod.Delete)
		}
		for _, node := range world.Nodes() {
			Eventually(asking(ctx, node.Host, address(ctx, "voice", 5000, ipv6))).Should(Succeed())
		}
		talks := talksToVoice(ctx)
		partners := map[string]string{}
		for name, t := range talks {
			partners[name] = t.partner()
		}
		others := gatherBystanders(ctx, true)

		start := time.Now()
		Expect(running[0].Delete(ctx)).To(Succeed())
		deleted := time.Now()
		for name, t := range talks {
			Eventually(t.since(deleted)).WithTimeout(soon).WithPolling(5*time.Millisecond).Should(ContainElement("voice-2"), name)
			if partners[name] == "voice-2" {
				Expect(t.since(start)()).To(Equal([]string{"voice-2"}), "%s had no reason to move", name)
			}
		}
		others.areLeftAlone("voice-1")
	})

	It("gets an answer as soon as there is somebody to answer", func(ctx context.Context) {
		applyForNow(ctx, voice)
		for _, node := range world.Nodes() {
			Eventually(rulesOf).WithArguments(ctx, node).Should(ContainSubstring("default/voice:rtp"))
		}
		talks := talksToVoice(ctx)
		others := gatherBystanders(ctx, false)
		goesOn(ctx, 300*time.Millisecond)
		for name, t := range talks {
			Expect(t.since(time.Time{})()).To(BeEmpty(), name)
		}
		pod, err := world.RunPod(ctx, voicePod("voice-1", nft))
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(pod.Delete)
		for name, t := range talks {
			Eventually(t.since(time.Time{})).WithTimeout(soon).Should(Equal([]string{"voice-1"}), name)
		}
		others.areLeftAlone()
	})

	It("gets an answer where it went nowhere before its Service was there", func(ctx context.Context) {
		pod, err := world.RunPod(ctx, voicePod("voice-1", nft))
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(pod.Delete)
		var talks []*talk
		for _, node := range world.Nodes() {
			for _, f := range []family{ipv4, ipv6} {
				talks = append(talks, startTalk(ctx, world.Outside(), f.on(node.Host, 30500)))
			}
			talks = append(talks, startTalk(ctx, pods["client-"+node.Name].Host, "198.51.100.53:5000"))
		}
		others := gatherBystanders(ctx, false)
		applyForNow(ctx, voice)
		for _, t := range talks {
			Eventually(t.since(time.Time{})).Should(Equal([]string{"voice-1"}))
		}
		others.areLeftAlone()
	})

	It("ends with its Service, or with its node port", func(ctx context.Context) {
		applyForNow(ctx, voice)
		pod, err := world.RunPod(ctx, voicePod("voice-1", nft))
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(pod.Delete)
		talks := talksToVoice(ctx)
		for name, t := range talks {
			Eventually(t.since(time.Time{})).Should(Equal([]string{"voice-1"}), name)
		}
		others := gatherBystanders(ctx, true)

		By("going silent, so that no flow begins anew")
		for _, t := range talks {
			t.isOver()
		}
		// left are the flows of talks that are still in a kernel.
		left := func(part string) func() []string {
			return func() (left []string) {
				for name, t := range talks {
					for _, node := range world.Nodes() {
						if strings.HasPrefix(name, part) && len(t.flowsIn(ctx, node)) > 0 {
							left = append(left, name)
						}
					}
				}
				return left
			}
		}
		Expect(left("outside")()).NotTo(BeEmpty())
		kubectl(ctx, "patch", "service", "voice", `--patch={"spec":{"type":"ClusterIP"}}`)
		Eventually(left("outside")).Should(BeEmpty())
		for _, kind := range []string{"pod on", "node", "external IP"} {
			Expect(left(kind)()).NotTo(BeEmpty(), kind)
		}
		kubectl(ctx, "delete", "service", "voice")
		Eventually(left("")).Should(BeEmpty())
		others.areLeftAlone()
	})
})

var _ = Describe("Settings of connection tracking", func() {
	It("take effect while they are changed, and break nothing", func(ctx context.Context) {
		parameter := func(node *cluster.Node, name string) func() (string, error) {
			return func() (string, error) {
				var text []byte
				err := node.Do(func() (err error) {
					text, err = os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_" + name)
					return err
				})
				return strings.TrimSpace(string(text)), err
			}
		}
		crowd := gather(ctx)
		const undo = `{"spec":{"conntrack":null}}`
		patchForNow(ctx, `{"spec":{"conntrack":{"udpTimeoutSeconds":77,"tcpCloseWaitTimeoutSeconds":1234,"tcpBeLiberal":"Enabled"}}}`, undo)
		for _, node := range world.Nodes() {
			Eventually(parameter(node, "udp_timeout")).Should(Equal("77"))
			Eventually(parameter(node, "tcp_timeout_close_wait")).Should(Equal("1234"))
			Eventually(parameter(node, "tcp_be_liberal")).Should(Equal("1"))
			Expect(parameter(node, "tcp_timeout_established")()).To(Equal("86400"))
		}
		kubectl(ctx, "patch", "spc", "default", "--type=merge", "--patch="+undo)
		for _, node := range world.Nodes() {
			Eventually(parameter(node, "tcp_timeout_close_wait")).Should(Equal("3600"))
			Eventually(parameter(node, "tcp_be_liberal")).Should(Equal("0"))
			Expect(parameter(node, "udp_timeout")()).To(Equal("77"), "what a config says nothing about stays as it is")
		}
		crowd.isUndisturbed()
	})
})
