package explain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/access"
	"github.com/serviceproxy/service-proxy-operator/dataplane/query"
)

// Answer is what an agent says of the Service, or why it does not.
type Answer struct {
	query.Service
	Err error
}

// agentsAtOnce is how many agents are asked at the same time.
const agentsAtOnce = 16

// ask asks all agents that are Ready what their nodes do for the Service.
func ask(ctx context.Context, f *access.Factory, v *View) {
	v.Answers = map[string]Answer{}
	var mu sync.Mutex
	var group sync.WaitGroup
	slots := make(chan struct{}, agentsAtOnce)
	for _, node := range slices.Sorted(maps.Keys(v.Agents)) {
		pod := v.Agents[node]
		if unreadiness(pod) != "" {
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			answer := askOne(ctx, f, pod, client.ObjectKeyFromObject(&v.Service))
			mu.Lock()
			v.Answers[node] = answer
			mu.Unlock()
			<-slots
		})
	}
	group.Wait()
}

func askOne(ctx context.Context, f *access.Factory, pod *corev1.Pod, service client.ObjectKey) (answer Answer) {
	var out, errOut bytes.Buffer
	answer.Err = f.Exec(ctx, pod, &out, &errOut, "/agent", "query", "service", service.String())
	if said := strings.TrimSpace(errOut.String()); answer.Err != nil && said != "" {
		answer.Err = errors.New(said)
	}
	if answer.Err == nil {
		answer.Err = json.Unmarshal(out.Bytes(), &answer.Service)
	}
	return answer
}

// unprogrammed says, by the answer of an agent, why its kernel does not hold the Service; empty if it does, or if the agent was
// not asked.
func (v *View) unprogrammed(node string) string {
	answer, asked := v.Answers[node]
	switch {
	case !asked:
		return ""
	case answer.Err != nil:
		return fmt.Sprintf("its agent does not answer: %v", answer.Err)
	case answer.Pending != "":
		return "its agent says that not all of it is in the kernel yet: " + answer.Pending
	case answer.Known && !answer.Programmed:
		return "its agent says that the Service is not in the kernel yet"
	case !answer.Known && v.Service.Spec.ClusterIP != corev1.ClusterIPNone:
		return "its agent does not know the Service yet"
	case len(answer.LeftOut) > 0:
		return fmt.Sprintf("mode %s leaves out: %s", answer.Mode, few(answer.LeftOut, ", "))
	}
	return ""
}
