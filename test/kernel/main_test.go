package kernel_test

import (
	"context"
	"os"
	"os/exec"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/test/kernel"
)

// again runs TestInside in a copy of this binary, as `go test` would run a package that needs IPVS.
func again(ctx context.Context, role, inside string, flags ...string) (status int, output string) {
	GinkgoHelper()
	tests := exec.CommandContext(ctx, os.Args[0], append([]string{"-test.run=^TestInside$"}, flags...)...)
	tests.Env = append(os.Environ(), roleVariable+"="+role, "INSIDE="+inside)
	out, err := tests.CombinedOutput()
	if tests.ProcessState == nil {
		Expect(err).NotTo(HaveOccurred())
	}
	return tests.ProcessState.ExitCode(), string(out)
}

var _ = Describe("A package of tests", func() {
	It("runs where IPVS is, with the flags of go test", func(ctx SpecContext) {
		status, output := again(ctx, packageRole, "ipvs", "-test.v", "-test.count=2")
		Expect(status).To(BeZero(), output)
		Expect(strings.Count(output, "--- PASS: TestInside")).To(Equal(2), output)
	}, SpecTimeout(runTimeout))

	DescribeTable("has the status of its tests", func(ctx SpecContext, what string, status int, says string) {
		got, output := again(ctx, packageRole, what, "-test.timeout=1s")
		Expect(got).To(Equal(status), output)
		Expect(output).To(ContainSubstring(says))
	},
		Entry("when one fails", SpecTimeout(runTimeout), "failure", 1, "on purpose"),
		Entry("when it exits", SpecTimeout(runTimeout), "exit", 42, ""),
		Entry("when it takes too long", SpecTimeout(runTimeout), "forever", 2, "panic: test timed out after 1s"),
	)

	It("reaches what it is to reach of the process that runs it", func(ctx SpecContext) {
		status, output := again(ctx, serverRole, "")
		Expect(status).To(BeZero(), output)
	}, SpecTimeout(runTimeout))

	It("says what to install where it can be run nowhere", func(ctx SpecContext) {
		if kernel.HasIPVS() {
			return // It runs anywhere.
		}
		GinkgoT().Setenv("PATH", "/nowhere")
		_, err := kernel.Run(ctx, kernel.Program{Args: []string{"true"}})
		Expect(err).To(MatchError(kernel.ErrMissing))
	})
})
