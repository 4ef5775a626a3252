package docs

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// onlyChecked are commands that cannot run here, and why. Of them it is checked that the program has such a command with
// such flags, where the program is ours, kubectl or make.
var onlyChecked = []struct {
	page    string // of which page; empty for any
	command *regexp.Regexp
	reason  string
}{
	{"", regexp.MustCompile(`^docker `), "there is no container engine"},
	{"", regexp.MustCompile(`^make (docker-build|bundle-build)`), "there is no container engine"},
	{"", regexp.MustCompile(`^operator-sdk `), "it needs a cluster with OLM; test/bundle tries the bundle"},
	{"", regexp.MustCompile(`^kubectl .*rollout status`), "no kubelet runs Deployments here; operator and agents are processes"},
	{"", regexp.MustCompile(`^ipvsadm `), "the kernel may have no IPVS; test/conformance looks at virtual servers"},
	{"", regexp.MustCompile(`^kubectl serviceproxy `), "test/plugin and test/explain run every command of the plugin"},
	{"docs/handover.md", regexp.MustCompile(``), "test/handover does what this page says, with the real kube-proxy"},
	{"docs/rollout.md", regexp.MustCompile(``), "its story is that of bad-change.story, and of test/safety"},
	{"docs/plugin.md", regexp.MustCompile(``), "test/plugin and test/explain run every command of the plugin"},
	{"docs/performance.md", regexp.MustCompile(``), "these are measurements: make bench"},
	{"docs/reliability.md", regexp.MustCompile(``), "these are tests"},
	{"docs/development.md", regexp.MustCompile(``), "these are what CI runs"},
	{"docs/CONTRIBUTING.md", regexp.MustCompile(``), "these are what CI runs"},
}

// excused says why a command is not run; empty if it is.
func excused(page, command string) string {
	for _, excuse := range onlyChecked {
		if (excuse.page == "" || excuse.page == page) && excuse.command.MatchString(command) {
			return excuse.reason
		}
	}
	return ""
}

// check says what is wrong with a command that is not run. Commands of programs that nobody here knows are right.
func check(ctx context.Context, command string) error {
	w := words(command)
	if len(w) == 0 {
		return nil
	}
	var help []string
	switch program, args := w[0], w[1:]; {
	case program == "make":
		_, err := shell(ctx, clone, strings.Join(append([]string{"make", "--dry-run"}, args...), " "))
		return err
	case program == "kubectl" && subcommand(args) == "serviceproxy":
		after := args[slices.Index(args, "serviceproxy")+1:]
		help = []string{"kubectl-serviceproxy " + subcommand(after) + " --help"}
		if subcommand(after) == "" {
			help = []string{"kubectl-serviceproxy --help"}
		}
	case program == "kubectl":
		help = []string{"kubectl " + subcommand(args) + " --help", "kubectl options"}
	case program == "bin/operator":
		help = []string{"operator --help"}
	case program == "bin/agent":
		help = []string{"agent " + subcommand(args) + " --help"}
	default:
		return nil
	}
	known := ""
	for _, command := range help {
		out, err := shell(ctx, clone, command+" 2>&1")
		if err != nil {
			return err
		}
		known += out
	}
	for _, flag := range regexp.MustCompile(`(?:^|\s)(--[a-z-]+)`).FindAllStringSubmatch(strings.Join(own(w), " "), -1) {
		if !regexp.MustCompile(regexp.QuoteMeta(flag[1]) + `\b`).MatchString(known) {
			return fmt.Errorf("%q: %s does not know %s", command, help[0], flag[1])
		}
	}
	return nil
}

// own are the words before "--", after which those of another program begin.
func own(words []string) []string {
	if end := slices.Index(words, "--"); end >= 0 {
		return words[:end]
	}
	return words
}

// subcommand is the first word that is no flag, nor the value of -n.
func subcommand(args []string) string {
	for i, word := range args {
		if !strings.HasPrefix(word, "-") && (i == 0 || args[i-1] != "-n") {
			return word
		}
	}
	return ""
}
