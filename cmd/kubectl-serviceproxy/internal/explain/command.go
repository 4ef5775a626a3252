package explain

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
)

const about = `Show why a Service does not work: the causes that are found, the true one first, each with the commands that help.

It looks at the Service, its EndpointSlices, the pods of its namespace, other Services that want its addresses, and what the
agents report of their nodes. With --agents it asks every agent, too, whether the kernel of its node holds the Service; you
need the right to create pods/exec in their namespace for that. What a node does with a single packet, trace shows.

Exit status: 0 if nothing was found that keeps clients from the Service for certain, 1 if something was, 2 if that could
not be found out.`

// NewExplainCommand returns the command explain.
func NewExplainCommand(f *access.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Show why a Service does not work",
		Long:  about,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newServiceCommand(f, streams))
	return cmd
}

func newServiceCommand(f *access.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var format output.Format
	var agents bool
	cmd := &cobra.Command{
		Use:               "service NAME",
		Aliases:           []string{"svc", "services"},
		Short:             "Show why a Service does not work",
		Long:              about,
		Example:           "  kubectl serviceproxy explain service -n shop web\n  kubectl serviceproxy explain service -n shop web --agents",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: f.CompleteServices(),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := f.Client()
			if err != nil {
				return err
			}
			namespace, err := f.Namespace()
			if err != nil {
				return err
			}
			v, err := gather(cmd.Context(), api, client.ObjectKey{Namespace: namespace, Name: args[0]}, f.OperatorNamespace)
			if err != nil {
				return err
			}
			if agents {
				ask(cmd.Context(), f, v)
			}
			explanation := Explain(v)
			if err := show(explanation, format, streams); err != nil {
				return err
			}
			if !explanation.Well {
				return output.NotWell
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&agents, "agents", false, "ask the agents of all nodes, too")
	format.AddFlag(cmd, output.Text)
	return cmd
}

// gather reads everything that an explanation is made of.
func gather(ctx context.Context, api client.Reader, name client.ObjectKey, operatorNamespace string) (*View, error) {
	v := &View{OperatorNamespace: operatorNamespace, Agents: map[string]*corev1.Pod{}}
	var (
		services corev1.ServiceList
		sliced   discoveryv1.EndpointSliceList
		pods     corev1.PodList
		agents   corev1.PodList
		nodes    corev1.NodeList
		proxies  v1alpha1.ServiceProxyNodeList
		configs  v1alpha1.ServiceProxyConfigList
	)
	err := api.Get(ctx, name, &v.Service)
	if apierrors.IsNotFound(err) {
		return nil, noSuchService(ctx, api, name)
	} else if err != nil {
		return nil, fmt.Errorf("reading Service %s: %w", name, err)
	}
	within := client.InNamespace(name.Namespace)
	for _, list := range []struct {
		of      string
		objects client.ObjectList
		options []client.ListOption
	}{
		{"Services", &services, nil},
		{"EndpointSlices", &sliced, []client.ListOption{within, client.MatchingLabels{discoveryv1.LabelServiceName: name.Name}}},
		{"pods", &pods, []client.ListOption{within}},
		{"agents", &agents, []client.ListOption{client.InNamespace(operatorNamespace)}},
		{"nodes", &nodes, nil},
		{"ServiceProxyNodes", &proxies, nil},
		{"ServiceProxyConfigs", &configs, nil},
	} {
		if err := api.List(ctx, list.objects, list.options...); err != nil {
			return nil, fmt.Errorf("listing %s: %w", list.of, access.Explained(err))
		}
	}
	v.Slices, v.Pods, v.Nodes, v.ProxyNodes, v.Configs = sliced.Items, pods.Items, nodes.Items, proxies.Items, configs.Items
	for i := range services.Items {
		if s := &services.Items[i]; client.ObjectKeyFromObject(s) != name {
			v.Others = append(v.Others, *s)
		}
	}
	for i := range agents.Items {
		if pod := &agents.Items[i]; access.IsAgent(pod) {
			v.Agents[pod.Spec.NodeName] = pod
		}
	}
	return v, nil
}

// noSuchService tells which of the Services of the namespace was probably meant.
func noSuchService(ctx context.Context, api client.Reader, name client.ObjectKey) error {
	var services corev1.ServiceList
	if err := api.List(ctx, &services, client.InNamespace(name.Namespace)); err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	var names []string
	for i := range services.Items {
		names = append(names, services.Items[i].Name)
	}
	return fmt.Errorf("in namespace %s: %w", name.Namespace, access.NoSuch("service", name.Name, names))
}

func show(e Explanation, format output.Format, streams genericiooptions.IOStreams) error {
	if format.IsForPrograms() {
		return format.Encode(streams.Out, e)
	}
	page := output.NewPage(streams.Out)
	e.Print(page)
	return page.Flush()
}

// Print adds the explanation to a page.
func (e *Explanation) Print(page *output.Page) {
	title := page.In(output.Bold, "Service "+e.Service)
	if len(e.Findings) == 0 {
		page.Printf("%s: %s\n\n%s kubectl serviceproxy trace FROM %s\n", title, page.In(output.Good, "nothing is known that would keep clients from it."),
			page.In(output.Faint, "->"), e.name())
		return
	}
	verdict := page.In(output.Bad, string(e.Findings[0].Cause))
	if e.Well {
		verdict = page.In(output.Good, "nothing keeps clients from it for certain")
	}
	page.Printf("%s: %s\n", title, verdict)
	colours := map[Effect]output.Colour{Nobody: output.Bad, Some: output.Warn, Perhaps: output.Faint}
	words := map[Effect]string{Nobody: "nobody gets through", Some: "some do not get through", Perhaps: "perhaps"}
	for _, f := range e.Findings {
		page.Printf("\n%s (%s): %s.\n", page.In(output.Bold, string(f.Cause)), page.In(colours[f.Effect], words[f.Effect]), strings.TrimSuffix(f.Message, "."))
		for _, command := range f.Next {
			page.Printf("  %s %s\n", page.In(output.Faint, "->"), command)
		}
	}
}

// name is how kubectl serviceproxy trace wants the Service, and its namespace.
func (e *Explanation) name() string {
	namespace, name, _ := strings.Cut(e.Service, "/")
	return fmt.Sprintf("%s -n %s", name, namespace)
}
