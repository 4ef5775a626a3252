package specs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/serviceproxy/service-proxy-operator/test/specs"
)

// failing names the variable of the environment that has as many letters as the spec inside fails times.
const failing = "SPECS_TEST_FAILING"

// inside is the suite that TestRun runs in a process of its own.
func inside(t *testing.T, fails int) {
	tries := 0
	ginkgo.It("fails at first", func() {
		tries++
		gomega.Expect(tries).To(gomega.BeNumerically(">", fails), "try %d", tries)
	})
	specs.Run(t, "inside")
}

func TestRun(t *testing.T) {
	if fails := len(os.Getenv(failing)); fails > 0 {
		inside(t, fails)
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		attempts, fails string
		passes          bool
		flaky           string
	}{
		"one attempt":                     {attempts: "", fails: "x"},
		"a second attempt that passes":    {attempts: "2", fails: "x", passes: true, flaky: "It fails at first"},
		"a second attempt that fails too": {attempts: "2", fails: "xx"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "flaky")
			cmd := exec.Command(program, "-test.run=^TestRun$", "-ginkgo.no-color")
			cmd.Env = append(os.Environ(), failing+"="+c.fails, specs.Attempts+"="+c.attempts, specs.Flaky+"="+file)
			out, err := cmd.CombinedOutput()
			if passes := err == nil; passes != c.passes {
				t.Fatalf("passes: %t, want %t\n%s", passes, c.passes, out)
			}
			_, end, _ := strings.Cut(string(out), "--- FAIL: TestRun")
			if told := strings.Contains(end, "It fails at first") && strings.Contains(end, "try "); told == c.passes {
				t.Errorf("the end of the output tells of the failure: %t, want %t\n%s", told, !c.passes, out)
			}
			flaky, err := os.ReadFile(file)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if c.flaky == "" && len(flaky) > 0 || !strings.Contains(string(flaky), c.flaky) {
				t.Errorf("the file tells %q, want %q", flaky, c.flaky)
			}
		})
	}
}
