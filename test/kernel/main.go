package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
)

// Main is for TestMain of a package whose tests need IPVS: it runs them, on a kernel that has it, and returns the status to
// exit with. Where the running kernel has none, the whole test binary runs once more inside, with the same flags and
// environment, in the same folder.
func Main(m interface{ Run() int }) int {
	if HasIPVS() {
		return m.Run()
	}
	status, err := Again(context.Background(), Program{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// Again runs this very program once more, on a kernel with IPVS, with the arguments and standard output and error that it
// has, and returns its exit status as Run does. more has whatever else there is to say, Env in addition to that of this
// process.
func Again(ctx context.Context, more Program) (int, error) {
	path, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("finding the path of this program: %w", err)
	}
	if build, ok := debug.ReadBuildInfo(); ok && detectsRaces(build) && !HasIPVS() {
		plain := path + "-without-race"
		defer func() { _ = os.Remove(plain) }()
		if err := buildWithoutRace(ctx, build, plain); err != nil {
			return 0, err
		}
		path = plain
	}
	more.Args = append([]string{path}, os.Args[1:]...)
	more.Env = append(os.Environ(), more.Env...)
	more.Stdout, more.Stderr = os.Stdout, os.Stderr
	return Run(ctx, more)
}

func setting(build *debug.BuildInfo, key string) string {
	for _, s := range build.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

func detectsRaces(build *debug.BuildInfo) bool { return setting(build, "-race") == "true" }

// buildWithoutRace builds the program that build describes once more, without the race detector.
func buildWithoutRace(ctx context.Context, build *debug.BuildInfo, output string) error {
	args := []string{"build"}
	target, isTest := strings.CutSuffix(build.Path, ".test")
	if isTest {
		args = []string{"test", "-c"}
	}
	args = append(args, "-race=false", "-o="+output, "-tags="+setting(build, "-tags"))
	if setting(build, "-cover") == "true" {
		args = append(args, "-covermode=atomic") // as with -race
	}
	cmd := exec.CommandContext(ctx, "go", append(args, target)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s without -race, which cannot work in user-mode Linux: %w: %s",
			target, errors.Join(ctx.Err(), err), strings.TrimSpace(string(out)))
	}
	return nil
}
