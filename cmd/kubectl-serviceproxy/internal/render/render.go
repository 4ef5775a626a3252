package render

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
)

const aboutRender = `Print what the kernel of a node is to hold, from files alone.

The files hold a Node, the ServiceProxyConfigs, Services and EndpointSlices, and the ServiceCIDRs of the cluster, as
kubectl get -o yaml prints them. No cluster is asked. The answer comes from the code that agents run, for a kernel that
offers everything, in the words of the programs that read it: iptables-restore and ipset, in mode IPVS ipvsadm and ip too.

Exit status: 0 if everything is programmed, 1 if something is left out, which the first lines say, 2 if nothing could be
printed.`

// NewRenderCommand returns the command render.
func NewRenderCommand(f *access.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var format output.Format
	files := newFileFlags("files, folders or URLs with the objects")
	cmd := &cobra.Command{
		Use:     "render [NODE] -f FILE",
		Short:   "Print the rules of a node from files alone",
		Long:    aboutRender,
		Example: "  kubectl get nodes,services,endpointslices,servicecidrs,serviceproxyconfigs -A -o yaml > cluster.yaml\n  kubectl serviceproxy render worker-1 -f cluster.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			found, err := inFiles(files, f, streams.ErrOut)
			if err != nil {
				return err
			}
			var all objects
			for _, u := range found {
				if err := all.put(u); err != nil {
					return err
				}
			}
			nodes, err := all.named(args...)
			switch {
			case err != nil:
				return err
			case len(nodes) == 0:
				return errors.New("the files hold no Node; rules depend on its pod CIDRs and addresses")
			case len(nodes) > 1:
				return fmt.Errorf("the files hold %d Nodes; name one, such as %s", len(nodes), nodes[0].Name)
			}
			rendering, err := all.rules(nodes[0])
			if err != nil {
				return err
			}
			if format.IsForPrograms() {
				err = format.Encode(streams.Out, rendering)
			} else if _, err = rendering.WriteTo(streams.Out); err != nil {
				err = fmt.Errorf("writing the rules: %w", err)
			}
			if err == nil && len(rendering.LeftOut) > 0 {
				return output.NotWell
			}
			return err
		},
	}
	files.AddFlags(cmd.Flags())
	format.AddFlag(cmd, output.Text)
	return cmd
}

// newFileFlags are the flags of kubectl that name files.
func newFileFlags(usage string) *genericclioptions.FileNameFlags {
	return &genericclioptions.FileNameFlags{Usage: usage, Filenames: &[]string{}, Kustomize: new(string), Recursive: new(bool)}
}
