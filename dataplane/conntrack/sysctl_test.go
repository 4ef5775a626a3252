package conntrack_test

import (
	"os"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/dataplane/conntrack"
)

var _ = Describe("Apply on the kernel", func() {
	read := func(path string) string {
		GinkgoHelper()
		text, err := os.ReadFile("/" + path)
		Expect(err).NotTo(HaveOccurred())
		return strings.TrimSpace(string(text))
	}

	It("sets timeouts of its network namespace, and leaves the machine its limits", func() {
		Expect(enterNamespace()).To(Succeed())
		limit, buckets := read(limitPath), read(bucketsPath)
		const sysctl = "proc/sys/net/netfilter/nf_conntrack_"
		settings := conntrack.Settings{
			MaxPerCore: 1, Min: 1 << 30, // more than any machine has
			TCPEstablishedTimeout: 1234 * time.Second, TCPCloseWaitTimeout: 123 * time.Second,
			UDPTimeout: 12 * time.Second, UDPStreamTimeout: 121 * time.Second, TCPBeLiberal: new(true),
		}

		refused, err := conntrack.Apply("/", settings.Writes(1))
		Expect(err).NotTo(HaveOccurred())
		Expect(read(sysctl + "tcp_timeout_established")).To(Equal("1234"))
		Expect(read(sysctl + "tcp_timeout_close_wait")).To(Equal("123"))
		Expect(read(sysctl + "udp_timeout")).To(Equal("12"))
		Expect(read(sysctl + "udp_timeout_stream")).To(Equal("121"))
		Expect(read(sysctl + "tcp_be_liberal")).To(Equal("1"))

		Expect(refused).To(HaveLen(2))
		Expect(refused[0]).To(MatchError(And(ContainSubstring("/"+limitPath), ContainSubstring("1073741824"))))
		Expect(refused[1]).To(MatchError(And(ContainSubstring("/"+bucketsPath), ContainSubstring("268435456"))))
		Expect(read(limitPath)).To(Equal(limit))
		Expect(read(bucketsPath)).To(Equal(buckets))
	})

	It("names the parameter and the value that the kernel does not take", func() {
		Expect(enterNamespace()).To(Succeed())
		_, err := conntrack.Apply("/", []conntrack.Write{{Path: "proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", Value: 7}})
		Expect(err).To(MatchError(And(ContainSubstring("nf_conntrack_tcp_be_liberal"), ContainSubstring("7"))))
	})
})
