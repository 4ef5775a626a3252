// Package specs runs Ginkgo specs as a Go test, in the same way everywhere: who sees only the end of a long log finds in it
// why specs failed, and where machines are shared a spec may be tried again, which is told.
package specs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
)

const (
	// Attempts names the variable of the environment that says how often a spec may be tried. It is once when unset.
	Attempts = "SPEC_ATTEMPTS"
	// Flaky names the variable with the path of a file to which is added which specs failed before they passed, and why.
	// The output of go test does not show that.
	Flaky = "SPEC_FLAKY"
)

// longest is how many bytes of the message of a failure are repeated. All of it stands above.
const longest = 1000

// Run runs the specs of a package as one test of the given name.
func Run(t *testing.T, suite string) {
	t.Helper()
	gomega.RegisterFailHandler(ginkgo.Fail)
	config, reporter := ginkgo.GinkgoConfiguration()
	if n, err := strconv.Atoi(os.Getenv(Attempts)); err == nil {
		config.FlakeAttempts = n
	}
	var failed, flaky []string
	ginkgo.ReportAfterSuite("failures", func(r ginkgo.Report) { failed, flaky = failures(r) })
	ginkgo.RunSpecs(t, suite, config, reporter)
	for _, f := range failed {
		t.Log(f)
	}
	if err := add(os.Getenv(Flaky), flaky); err != nil {
		t.Fatalf("telling which specs failed before they passed: %v", err)
	}
}

// failures says why specs failed, and why others failed before they passed.
func failures(r ginkgo.Report) (failed, flaky []string) {
	for i := range r.SpecReports {
		spec := &r.SpecReports[i]
		switch {
		case spec.Failed():
			failed = append(failed, text(spec, &spec.Failure))
		case spec.State.Is(types.SpecStatePassed) && spec.NumAttempts > 1 && len(spec.AdditionalFailures) > 0:
			flaky = append(flaky, text(spec, &spec.AdditionalFailures[0].Failure))
		}
	}
	return failed, flaky
}

// text is a failure in few lines.
func text(spec *types.SpecReport, f *types.Failure) string {
	message := f.Message
	if len(message) > longest {
		message = message[:longest] + " ..."
	}
	return fmt.Sprintf("%s %s (%s):\n%s", spec.LeafNodeType, spec.FullText(), f.Location, strings.TrimSpace(message))
}

// add adds texts to a file, unless it has no name.
func add(path string, texts []string) error {
	if path == "" || len(texts) == 0 {
		return nil
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := file.WriteString(strings.Join(texts, "\n") + "\n"); err != nil {
		_ = file.Close() // the first error counts
		return err
	}
	return file.Close()
}
