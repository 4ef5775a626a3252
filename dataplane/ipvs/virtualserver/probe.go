package virtualserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// MissingModuleError says that the kernel lacks a module, and what to do.
type MissingModuleError struct {
	// Module is ip_vs, or ip_vs_rr and so on for a scheduler.
	Module string
	// Load is why it could not be loaded from here, as in a container that has neither modprobe nor modules.
	Load error
}

// Error is for people.
func (e *MissingModuleError) Error() string {
	text := fmt.Sprintf("the kernel of this node has no module %s: load it there with 'modprobe %s', and at every start by a file in /etc/modules-load.d", e.Module, e.Module)
	if e.Load != nil {
		text += fmt.Sprintf(" (loading it from here: %v)", e.Load)
	}
	return text
}

// Unwrap is why it could not be loaded.
func (e *MissingModuleError) Unwrap() error { return e.Load }

// Probe says whether virtual servers with a scheduler are possible here. What is missing it tries to have loaded, and
// then fails with a MissingModuleError. It makes a virtual server, at an address that stands for examples only
// (RFC 5737), and removes it.
func Probe(ctx context.Context, scheduler string) error {
	kernel, err := Open()
	if err != nil {
		return err
	}
	defer func() { _ = kernel.Close() }() // what was found out counts
	if _, err := kernel.family(ctx); err != nil {
		var missing *MissingModuleError
		if !errors.As(err, &missing) {
			return err
		}
		missing.Load = load(ctx, missing.Module)
		if _, again := kernel.family(ctx); again != nil {
			return missing
		}
	}
	return kernel.probe(ctx, scheduler)
}

func (k *Kernel) probe(ctx context.Context, scheduler string) error {
	err := k.try(ctx, scheduler)
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	missing := &MissingModuleError{Module: "ip_vs_" + scheduler}
	missing.Load = load(ctx, missing.Module)
	if err := k.try(ctx, scheduler); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return missing
}

// try makes a virtual server and removes it. The kernel itself asks for the module of a scheduler that it lacks.
func (k *Kernel) try(ctx context.Context, scheduler string) error {
	key := At(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 1), forwarding.TCP)
	var batch Batch
	batch.AddServer(New(key, scheduler, 0))
	// One that was left behind would say nothing of this scheduler.
	batch.SetServer(New(key, scheduler, 0))
	batch.DeleteServer(key)
	for _, failure := range k.Do(ctx, batch) {
		if failure.Action == SetServer || !errors.Is(failure, unix.EEXIST) {
			return fmt.Errorf("trying IPVS: %w", failure)
		}
	}
	return nil
}

// load has a module loaded, where that is possible.
func load(ctx context.Context, module string) error {
	out, err := exec.CommandContext(ctx, "modprobe", module).CombinedOutput()
	if text := strings.TrimSpace(string(out)); err != nil && text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}
