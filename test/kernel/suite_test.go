package kernel_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/test/kernel"
)

// insideVariable tells a copy of this test binary to be a package of tests that needs IPVS.
const insideVariable = "KERNEL_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) != "" {
		os.Exit(kernel.Main(m))
	}
	os.Exit(m.Run())
}

func TestKernel(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(time.Minute)
	SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	RunSpecs(t, "A kernel with IPVS")
}

// TestInside is what the specs of Main run in a copy of this binary.
func TestInside(t *testing.T) {
	what := os.Getenv(insideVariable)
	if what == "" {
		what = "nothing"
	}
	t.Run(what, func(t *testing.T) {
		switch what {
		case "ipvs":
			if !kernel.HasIPVS() {
				t.Error("there is no IPVS here")
			}
			fmt.Println("run here")
		case "failure":
			t.Error("on purpose")
		case "exit":
			os.Exit(42)
		case "forever":
			<-t.Context().Done()
		}
	})
}
