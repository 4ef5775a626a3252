// Package promtool runs Prometheus' own promtool, pinned and built by test/tools/promtool.
package promtool

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Run runs promtool with some arguments, of which paths have to be absolute. root is the folder of the repository. The
// first run on a machine builds it, which takes minutes. The error has what promtool says.
func Run(ctx context.Context, root string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"tool", "promtool"}, args...)...)
	cmd.Dir = filepath.Join(root, "test", "tools", "promtool")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false -tags=remove_all_sd")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("promtool: %w\n%s", err, out)
	}
	return nil
}
