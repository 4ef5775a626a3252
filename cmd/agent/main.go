// The agent programs Services on the node that it runs on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/serviceproxy/service-proxy-operator/dataplane/agent"
	"github.com/serviceproxy/service-proxy-operator/dataplane/apiserver"
	"github.com/serviceproxy/service-proxy-operator/dataplane/foreignproxy"
	"github.com/serviceproxy/service-proxy-operator/dataplane/iptables"
	"github.com/serviceproxy/service-proxy-operator/dataplane/ipvs"
	"github.com/serviceproxy/service-proxy-operator/dataplane/laststate"
	"github.com/serviceproxy/service-proxy-operator/dataplane/query"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	klog.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	options := agent.Options{Version: version, Clock: clock.RealClock{}}
	var kubeconfig, config, stateDir, socket string
	var apiServers []string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Program the Services of a cluster on this node",
		Long: "Program the Services of a cluster on this node, in the network namespace it is started in.\n" +
			"It follows the ServiceProxyNode of the node, and leaves its rules when it stops.",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			api, err := restConfig(kubeconfig)
			if err != nil {
				return err
			}
			servers, err := apiserver.New(ctx, api, apiserver.Options{
				Given: apiServers, OfService: kubeconfig == "", File: filepath.Join(stateDir, "apiservers.json"),
			})
			if err != nil {
				return err
			}
			options.API, options.StateDir, options.QuerySocket = servers.Config(), stateDir, socketOf(socket, stateDir)
			if options.NodeName, err = nodeName(options.NodeName); err != nil {
				return err
			}
			if config != "" {
				if options.Standalone, err = agent.ReadConfig(config); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			// Not waited for: see agent.Run.
			go func() {
				if err := servers.Follow(ctx); err != nil {
					cancel(err)
				}
			}()
			return agent.Run(ctx, options)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig file; the Pod's service account when empty")
	flags.StringSliceVar(&apiServers, "api-server", apiServersOf(os.Getenv("API_SERVERS")),
		"addresses (host:port, comma-separated) of API servers or of a load balancer before them, tried before those that\n"+
			"are found in the EndpointSlice of Service default/kubernetes; $API_SERVERS when empty")
	flags.StringVar(&options.NodeName, "node-name", os.Getenv("NODE_NAME"),
		"name of the Node object of this node; $NODE_NAME, or else the host name, when empty")
	flags.StringVar(&config, "config", "",
		"ServiceProxyConfig file to run, instead of following the ServiceProxyNode: needs no operator and no CRD")
	flags.StringVar(&options.HealthAddress, "healthz-bind-address", "0.0.0.0:10256", "address of /healthz and /livez")
	flags.StringVar(&options.ProbeAddress, "probe-bind-address", "",
		"one more address of /livez and /readyz, for a kubelet on a node where another proxy may have the port of /healthz")
	flags.StringVar(&options.MetricsAddress, "metrics-bind-address", "127.0.0.1:10249", "address of /metrics")
	shared := cmd.PersistentFlags()
	shared.StringVar(&stateDir, "state-dir", "/var/lib/service-proxy",
		"folder of what the agent needs to know when it starts while the API server is away, and of the settings to return to")
	shared.StringVar(&socket, "query-socket", "",
		"Unix socket at which the agent answers questions, which only its user can open; agent.sock in --state-dir when empty")
	shared.StringVar(&options.HostRoot, "host-root", "/",
		"where the node's proc/sys is; a container sees its own read-only")
	logging := flag.NewFlagSet("", flag.ContinueOnError)
	klog.InitFlags(logging)
	shared.AddGoFlag(logging.Lookup("v"))
	cmd.AddCommand(cleanup(&socket, &stateDir, &options.HostRoot), queries(&socket, &stateDir))
	return cmd
}

func cleanup(socket, stateDir, hostRoot *string) *cobra.Command {
	var kubeProxy bool
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove everything that an agent ever made on this node, and nothing else",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if kubeProxy {
				return foreignproxy.Remove(cmd.Context(), *hostRoot)
			}
			err := errors.Join(iptables.Cleanup(cmd.Context()), ipvs.Cleanup(cmd.Context()), laststate.Folder(*stateDir).Remove(),
				query.Remove(socketOf(*socket, *stateDir)))
			if err != nil {
				return fmt.Errorf("cleaning up: %w", err)
			}
			warnAboutLocalnet(cmd)
			return nil
		},
	}
	cmd.Flags().BoolVar(&kubeProxy, "kube-proxy", false,
		"remove what a kube-proxy that is gone has left on this node, in any mode, instead of what an agent made")
	return cmd
}

// warnAboutLocalnet tells of the one thing that is left: who set it first is not known, and others may rely on it.
func warnAboutLocalnet(cmd *cobra.Command) {
	value, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/route_localnet")
	if err == nil && strings.TrimSpace(string(value)) == "1" {
		cmd.PrintErrln("net.ipv4.conf.all.route_localnet is still 1, and our rule that keeps the network away from 127.0.0.0/8 is gone.",
			"\nUnless another proxy needs it, run: sysctl -w net.ipv4.conf.all.route_localnet=0")
	}
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("finding the API server: %w; run in a Pod or give --kubeconfig", err)
		}
		return config, nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading --kubeconfig %s: %w", kubeconfig, err)
	}
	return config, nil
}

// apiServersOf returns the addresses in a list with commas, none if it is empty.
func apiServersOf(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

func nodeName(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("finding the host name: %w; give --node-name", err)
	}
	return strings.ToLower(strings.TrimSpace(host)), nil
}
