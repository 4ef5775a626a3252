package docs

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"
)

// pages lists all pages.
func pages() []string {
	GinkgoHelper()
	found, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	Expect(err).NotTo(HaveOccurred())
	for i := range found {
		found[i], err = filepath.Rel(root, found[i])
		Expect(err).NotTo(HaveOccurred())
	}
	return append(found, "README.md")
}

// What comes first and last: the rest needs what is installed, and it can be removed only once. In between, pages are
// followed by their names.
const (
	firstPart = "Reaching the API server"
	lastPart  = "Removing it"
)

var _ = Describe("The pages", Ordered, func() {
	var middle, last []block

	BeforeAll(func(ctx context.Context) {
		var first []block
		for _, page := range pages() {
			blocks, _, err := readPage(page)
			Expect(err).NotTo(HaveOccurred())
			for _, b := range blocks {
				switch {
				case page == "docs/install.md" && b.heading == firstPart:
					first = append(first, b)
				case page == "docs/install.md" && b.heading == lastPart:
					last = append(last, b)
				case page == "README.md" && strings.Contains(b.text, "git clone"): // a spec of its own
				default:
					middle = append(middle, b)
				}
			}
		}
		// Other pages speak of what this one installs.
		slices.SortStableFunc(middle, func(a, b block) int { return before(b) - before(a) })
		follow(ctx, first)
		start(ctx)
	}, NodeTimeout(5*time.Minute))

	It("do what they say", func(ctx context.Context) { follow(ctx, middle) }, SpecTimeout(10*time.Minute))

	It("mention commands that exist", func(ctx context.Context) {
		for _, page := range pages() {
			_, mentioned, err := readPage(page)
			Expect(err).NotTo(HaveOccurred())
			for _, command := range mentioned {
				if strings.Contains(command, " ") && !strings.Contains(command, "...") {
					Expect(check(ctx, command)).To(Succeed(), page)
				}
			}
		}
	}, SpecTimeout(5*time.Minute))

	It("take everything away again", func(ctx context.Context) {
		follow(ctx, last)
		out, err := shell(ctx, clone, "kubectl get crd,clusterrole,validatingadmissionpolicy -o name | grep -i service-\\?proxy || true")
		Expect(err).NotTo(HaveOccurred())
		Expect(out).To(BeEmpty())
	}, SpecTimeout(5*time.Minute))
})

// A newcomer has nothing but git, Go, make and gcc, and does what README says first, word for word.
var _ = Describe("README", func() {
	It("works from a fresh clone", func(ctx context.Context) {
		blocks, _, err := readPage("README.md")
		Expect(err).NotTo(HaveOccurred())
		i := slices.IndexFunc(blocks, func(b block) bool { return strings.Contains(b.text, "git clone") })
		Expect(i).To(BeNumerically(">=", 0))
		commands := blocks[i].commands()
		Expect(commands).To(HaveLen(2))
		dir := GinkgoT().TempDir()
		fetched := filepath.Join(dir, "service-proxy-operator")
		for _, step := range []struct{ dir, command string }{
			{dir, commands[0]}, {fetched, useWhatIsBuilt(fetched)}, {fetched, commands[1]},
		} {
			By(step.command)
			out, err := shell(ctx, step.dir, step.command)
			Expect(err).NotTo(HaveOccurred())
			GinkgoWriter.Println(out)
		}
	}, SpecTimeout(20*time.Minute))
})

// before is higher for what has to come sooner.
func before(b block) int {
	if b.page == "docs/install.md" {
		return 1
	}
	return 0
}

// follow does what blocks say, in their order.
func follow(ctx context.Context, blocks []block) {
	GinkgoHelper()
	for _, b := range blocks {
		if b.file != "" {
			path := filepath.Join(clone, b.file)
			Expect(os.MkdirAll(filepath.Dir(path), 0o755)).To(Succeed())
			Expect(os.WriteFile(path, []byte(b.text), 0o600)).To(Succeed())
		}
		if b.language == "yaml" {
			Expect(tryManifests(ctx, b)).To(Succeed(), b.String())
		}
		for _, command := range b.commands() {
			if reason := excused(b.page, command); reason != "" {
				AddReportEntry("only checked", command+": "+reason, ReportEntryVisibilityNever)
				Expect(check(ctx, command)).To(Succeed(), b.String())
				continue
			}
			Expect(run(ctx, command)).To(Succeed(), b.String())
		}
	}
}

// tryManifests has the API server check the objects of ours in a block; those of others have to be YAML.
func tryManifests(ctx context.Context, b block) error {
	for document := range strings.SplitSeq(b.text, "\n---\n") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			return err
		}
		if version, _ := object["apiVersion"].(string); !strings.HasPrefix(version, "serviceproxy.io/") {
			continue
		}
		path := filepath.Join(GinkgoT().TempDir(), "object.yaml")
		if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
			return err
		}
		if _, err := shell(ctx, clone, "kubectl apply --dry-run=server -f "+path); err != nil {
			return err
		}
	}
	return nil
}
