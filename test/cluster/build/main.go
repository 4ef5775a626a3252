// Command build makes the programs of the control plane that test/cluster runs ready in .cache/bin.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/serviceproxy/service-proxy-operator/test/cluster/binaries"
)

func main() {
	proxy := flag.Bool("kube-proxy", false, "build kube-proxy as well, which benchmarks compare with")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := build(ctx, *proxy); err != nil {
		fmt.Fprintln(os.Stderr, "control plane:", err)
		os.Exit(1)
	}
}

func build(ctx context.Context, proxy bool) error {
	cache, err := binaries.Open()
	if err != nil {
		return err
	}
	programs := binaries.ControlPlane()
	if proxy {
		programs = append(programs, binaries.KubeProxy)
	}
	return cache.Build(ctx, os.Stdout, programs...)
}
