package kernel_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/test/kernel"
	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

// roleVariable tells a copy of this test binary what to be instead of the suite.
const roleVariable = "KERNEL_TEST_ROLE"

const (
	packageRole = "package" // tests of a package that needs IPVS
	holderRole  = "holder"  // runs a program that never ends
	serverRole  = "server"  // serves to a package that it runs
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case packageRole:
		os.Exit(kernel.Main(m))
	case holderRole:
		_, err := kernel.Run(context.Background(), kernel.Program{Args: []string{"sh", "-c", forever}, Stdout: os.Stdout})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case serverRole:
		os.Exit(serve())
	default:
		os.Exit(m.Run())
	}
}

// serve runs this program once more, inside, where TestInside is to fetch what is served here.
func serve() int {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("0123456789", page/10))
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	status, err := kernel.Again(context.Background(), kernel.Program{
		Env: []string{roleVariable + "=" + packageRole, "INSIDE=" + address}, Reach: []string{address},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// page is the size of what is served: many packets, several at a time.
const page = 10_000_000

// forever is a program of the shell that says when it runs.
const forever = "echo running; exec sleep 600"

// runTimeout is far beyond what a boot takes on a busy machine.
const runTimeout = time.Minute

func TestKernel(t *testing.T) {
	SetDefaultEventuallyTimeout(runTimeout)
	SetDefaultEventuallyPollingInterval(50 * time.Millisecond)
	specs.Run(t, "A kernel with IPVS")
}

// TestInside is what a package that needs IPVS holds; what it does is for the specs of Main to say.
func TestInside(t *testing.T) {
	switch what := os.Getenv("INSIDE"); what {
	case "":
		t.Log("run by a spec, in a copy of this binary")
	case "ipvs":
		if !kernel.HasIPVS() {
			t.Error("there is no IPVS here")
		}
	case "failure":
		t.Error("on purpose")
	case "exit":
		os.Exit(42)
	case "forever":
		select {}
	default:
		fetch(t, kernel.Reached(what))
	}
}

func fetch(t *testing.T, address string) {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if n, err := io.Copy(io.Discard, response.Body); n != page || err != nil {
		t.Errorf("fetched %d bytes, %v, want %d", n, err, page)
	}
}
