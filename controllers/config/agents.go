package config

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// agentName is the DaemonSet of the agents, in the namespace of the operator. There is none where somebody else runs
// them.
const agentName = "service-proxy-agent"

// agentLabels are those of the Pods of the DaemonSet.
func agentLabels() map[string]string {
	return map[string]string{"app.kubernetes.io/name": "service-proxy", "app.kubernetes.io/component": "agent"}
}

// updating says how far the agents are with an update of themselves, or nothing if there is none. Agents that are not
// ready do not count: each begins with what its node has, and nobody waits for one that cannot.
func updating(agents []appsv1.DaemonSet) string {
	for i := range agents {
		desired, status := &agents[i], &agents[i].Status
		if desired.Name != agentName {
			continue
		}
		if status.ObservedGeneration < desired.Generation || status.UpdatedNumberScheduled < status.DesiredNumberScheduled {
			return fmt.Sprintf("the agents are being updated, and %d of %d are so far (DaemonSet %s)",
				status.UpdatedNumberScheduled, status.DesiredNumberScheduled, desired.Name)
		}
	}
	return ""
}

// agentsDown returns the nodes of which an agent is known, and none that is ready.
func agentsDown(pods []corev1.Pod) map[string]bool {
	down := map[string]bool{}
	for i := range pods {
		node := pods[i].Spec.NodeName
		known, seen := down[node]
		down[node] = !isPodReady(&pods[i]) && (known || !seen)
	}
	return down
}

func isPodReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// reducePod keeps of the Pod of an agent where it is and whether it is ready.
func reducePod(in any) (any, error) {
	pod, ok := in.(*corev1.Pod)
	if !ok {
		return in, nil
	}
	reduced := &corev1.Pod{}
	reduced.Name, reduced.Namespace, reduced.UID = pod.Name, pod.Namespace, pod.UID
	reduced.ResourceVersion, reduced.Labels = pod.ResourceVersion, pod.Labels
	reduced.Spec.NodeName = pod.Spec.NodeName
	if isPodReady(pod) {
		reduced.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return reduced, nil
}

// podMatters leaves out everything but where an agent is and whether it is ready.
func podMatters(before, after *corev1.Pod) bool {
	return isPodReady(before) != isPodReady(after) || before.Spec.NodeName != after.Spec.NodeName
}

// agentsMatter leaves out how many agents are ready.
func agentsMatter(before, after *appsv1.DaemonSet) bool {
	return updating([]appsv1.DaemonSet{*before}) != updating([]appsv1.DaemonSet{*after})
}
