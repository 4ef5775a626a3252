package addresses_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/addresses"
)

func TestWithin(t *testing.T) {
	networks := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")}
	for name, test := range map[string]struct {
		addr     string
		networks []netip.Prefix
		want     bool
	}{
		"in the first":           {"192.0.2.9", networks, true},
		"in the second":          {"2001:db8::9", networks, true},
		"in none":                {"198.51.100.9", networks, false},
		"in none, of IPv6":       {"2001:db8:1::9", networks, false},
		"networks are not given": {"198.51.100.9", nil, true},
		"there are no networks":  {"192.0.2.9", []netip.Prefix{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := addresses.Within(netip.MustParseAddr(test.addr), test.networks); got != test.want {
				t.Errorf("Within() = %v, want %v", got, test.want)
			}
		})
	}
}

func TestUsable(t *testing.T) {
	for addr, want := range map[string]bool{
		"192.0.2.9":   true,
		"169.254.1.1": true, // some clouds and CNI plugins give nodes such addresses
		"127.0.0.1":   false,
		"127.1.2.3":   false,
		"::1":         false,
		"fe80::1":     false,
		"2001:db8::1": true,
		"fd00::1":     true,
	} {
		if got := addresses.Usable(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Usable(%s) = %v, want %v", addr, got, want)
		}
	}
}

var _ = Describe("List", func() {
	It("has every address once, in order, without those of Services of kube-proxy", func() {
		enterNamespace()
		addLink("eth0")
		addLink("eth1")
		addLink("kube-ipvs0")
		addAddress("192.0.2.2/24", "eth0")
		addAddress("192.0.2.2/32", "eth1")
		addAddress("198.51.100.1/24", "eth1")
		addAddress("2001:db8::2/64", "eth1")
		addAddress("10.96.0.1/32", "kube-ipvs0")
		addAddress("fd00::1/128", "kube-ipvs0")

		found, err := addresses.List()
		Expect(err).NotTo(HaveOccurred())
		linkLocal := func(a netip.Addr) bool { return a.IsLinkLocalUnicast() }
		Expect(slices.ContainsFunc(found, linkLocal)).To(BeTrue(), "%v has an address for a link only", found)
		var texts []string
		for _, a := range slices.DeleteFunc(found, linkLocal) {
			texts = append(texts, a.String())
		}
		Expect(texts).To(Equal([]string{"127.0.0.1", "192.0.2.2", "198.51.100.1", "::1", "2001:db8::2"}))
	})
})

var _ = Describe("Watch", func() {
	It("tells of addresses that come and go, of both families", func(ctx context.Context) {
		enterNamespace()
		changes, err := addresses.Watch(ctx)
		Expect(err).NotTo(HaveOccurred())
		Consistently(changes).WithTimeout(50 * time.Millisecond).ShouldNot(Receive())
		for _, addr := range []string{"192.0.2.2/24", "2001:db8::2/64"} {
			addAddress(addr, "lo")
			Eventually(changes).Should(Receive(), addr)
			removeAddress(addr, "lo")
			Eventually(changes).Should(Receive(), addr)
		}
	})

	It("tells once of many changes that nobody took note of", func(ctx context.Context) {
		enterNamespace()
		changes, err := addresses.Watch(ctx)
		Expect(err).NotTo(HaveOccurred())
		for i := range 1000 {
			addAddress(fmt.Sprintf("10.0.%d.%d/32", i>>8, i&0xff), "lo")
		}
		told := 0
		for quiet := false; !quiet; {
			select {
			case <-changes:
				told++
			case <-time.After(100 * time.Millisecond):
				quiet = true
			}
		}
		Expect(told).To(And(BeNumerically(">=", 1), BeNumerically("<", 100)), "the last may be told of after the first were taken note of")

		addAddress("192.0.2.2/24", "lo")
		Eventually(changes).Should(Receive())
	})

	It("ends with its context", func(ctx context.Context) {
		enterNamespace()
		ctx, cancel := context.WithCancel(ctx)
		changes, err := addresses.Watch(ctx)
		Expect(err).NotTo(HaveOccurred())
		cancel()
		Eventually(changes).Should(BeClosed())
	})
})
