package install

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
)

// AgentName is the name of the DaemonSet of the agents and of their service account.
const AgentName = "service-proxy-agent"

// APIServersName is the name of the ConfigMap that tells an agent how to reach an API server the first time. It is no
// part of the DaemonSet's template, so that API servers that come and go restart no agent: those that run follow the
// EndpointSlice of the API servers, and a Pod that starts gets what is in the ConfigMap by then.
const APIServersName = "service-proxy-api-servers"

const (
	apiServersKey = "addresses"

	healthAddress  = ":10256"
	metricsAddress = "127.0.0.1:10249"
	// While a node is handed over, kube-proxy may still have the two above. A kubelet must not take its answers for ours.
	probePort = 10266

	stateDir = "/var/lib/service-proxy"
	lockFile = "/run/xtables.lock"
	hostRoot = "/host"
	sysctls  = "/proc/sys/net"
)

// Agent says how agents are run.
type Agent struct {
	// Image is that of the agent.
	Image string
	// MaxUnavailable is how many agents, or how much of them, are replaced at a time when the DaemonSet changes.
	MaxUnavailable intstr.IntOrString
}

// Capabilities returns what an agent has of the rights of root (capabilities(7)): NET_ADMIN to write rules, sets, routes,
// virtual servers and the sysctls of the network. NET_RAW because the legacy backend of iptables talks to the kernel
// through a raw socket (the nft backend does not, and which one a node uses is not known here), and to have IPVS forget
// connections, which takes packets made by hand. SYS_MODULE is not among
// them: the kernel itself loads the modules of rules, of sets, and ip_vs with its schedulers when they are first asked
// for, and its modprobe runs outside of the container.
func Capabilities() []corev1.Capability { return []corev1.Capability{"NET_ADMIN", "NET_RAW"} }

// daemonSet renders what runs the agents.
func daemonSet(namespace string, agent Agent, owner *metav1ac.OwnerReferenceApplyConfiguration) *appsv1ac.DaemonSetApplyConfiguration {
	selector := labels()
	selector[labelComponent] = componentAgent
	return appsv1ac.DaemonSet(AgentName, namespace).
		WithLabels(selector).
		WithOwnerReferences(owner).
		WithSpec(appsv1ac.DaemonSetSpec().
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(selector)).
			// Rules stay in the kernel while an agent restarts. There can be no surge: two agents cannot share a port.
			WithUpdateStrategy(appsv1ac.DaemonSetUpdateStrategy().
				WithType(appsv1.RollingUpdateDaemonSetStrategyType).
				WithRollingUpdate(appsv1ac.RollingUpdateDaemonSet().
					WithMaxSurge(intstr.FromInt32(0)).
					WithMaxUnavailable(agent.MaxUnavailable))).
			WithTemplate(corev1ac.PodTemplateSpec().
				WithLabels(selector).
				WithAnnotations(map[string]string{"kubectl.kubernetes.io/default-container": componentAgent}).
				WithSpec(podSpec(agent.Image))))
}

func podSpec(image string) *corev1ac.PodSpecApplyConfiguration {
	return corev1ac.PodSpec().
		WithServiceAccountName(AgentName).
		WithPriorityClassName("system-node-critical").
		WithHostNetwork(true).
		// Cluster DNS is behind a Service that this agent programs.
		WithDNSPolicy(corev1.DNSDefault).
		WithEnableServiceLinks(false).
		WithTerminationGracePeriodSeconds(10).
		WithNodeSelector(map[string]string{corev1.LabelOSStable: "linux"}).
		WithTolerations(corev1ac.Toleration().WithOperator(corev1.TolerationOpExists)).
		WithSecurityContext(corev1ac.PodSecurityContext().
			WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))).
		WithContainers(container(image)).
		WithVolumes(
			// Shared with every other program of the node that writes rules of iptables.
			hostPath("xtables-lock", lockFile, corev1.HostPathFileOrCreate),
			// Limits and timeouts of connection tracking, and what IPVS needs. A container sees its own /proc/sys read-only.
			hostPath("sysctls", sysctls, corev1.HostPathDirectory),
			// What an agent needs to know when it starts while the API server is away.
			hostPath("state", stateDir, corev1.HostPathDirectoryOrCreate),
			corev1ac.Volume().WithName("tmp").WithEmptyDir(corev1ac.EmptyDirVolumeSource()))
}

func container(image string) *corev1ac.ContainerApplyConfiguration {
	return corev1ac.Container().
		WithName(componentAgent).
		WithImage(image).
		WithArgs(
			"--node-name=$(NODE_NAME)",
			"--healthz-bind-address="+healthAddress,
			"--metrics-bind-address="+metricsAddress,
			fmt.Sprintf("--probe-bind-address=127.0.0.1:%d", probePort),
			"--host-root="+hostRoot,
			"--state-dir="+stateDir).
		WithEnv(
			corev1ac.EnvVar().WithName("NODE_NAME").WithValueFrom(corev1ac.EnvVarSource().
				WithFieldRef(corev1ac.ObjectFieldSelector().WithFieldPath("spec.nodeName"))),
			corev1ac.EnvVar().WithName("API_SERVERS").WithValueFrom(corev1ac.EnvVarSource().
				WithConfigMapKeyRef(corev1ac.ConfigMapKeySelector().
					WithName(APIServersName).WithKey(apiServersKey).WithOptional(true)))).
		WithLivenessProbe(httpGet("/livez").WithInitialDelaySeconds(15).WithPeriodSeconds(20)).
		WithReadinessProbe(httpGet("/readyz").WithPeriodSeconds(10)).
		WithResources(corev1ac.ResourceRequirements().WithRequests(corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
		})).
		WithSecurityContext(corev1ac.SecurityContext().
			WithRunAsUser(0).
			WithPrivileged(false).
			WithAllowPrivilegeEscalation(false).
			WithReadOnlyRootFilesystem(true).
			WithCapabilities(corev1ac.Capabilities().WithDrop("ALL").WithAdd(Capabilities()...)).
			// Where SELinux is on, it keeps other types from the files of the node that are mounted.
			WithSELinuxOptions(corev1ac.SELinuxOptions().WithType("spc_t").WithLevel("s0"))).
		WithVolumeMounts(
			corev1ac.VolumeMount().WithName("xtables-lock").WithMountPath(lockFile),
			corev1ac.VolumeMount().WithName("sysctls").WithMountPath(hostRoot+sysctls),
			corev1ac.VolumeMount().WithName("state").WithMountPath(stateDir),
			corev1ac.VolumeMount().WithName("tmp").WithMountPath("/tmp"))
}

func httpGet(path string) *corev1ac.ProbeApplyConfiguration {
	return corev1ac.Probe().
		WithHTTPGet(corev1ac.HTTPGetAction().WithHost("127.0.0.1").WithPath(path).WithPort(intstr.FromInt32(probePort))).
		WithTimeoutSeconds(5)
}

func hostPath(name, path string, kind corev1.HostPathType) *corev1ac.VolumeApplyConfiguration {
	return corev1ac.Volume().WithName(name).
		WithHostPath(corev1ac.HostPathVolumeSource().WithPath(path).WithType(kind))
}

// apiServers renders the ConfigMap that lists the API servers.
func apiServers(
	namespace string, addresses []string, owner *metav1ac.OwnerReferenceApplyConfiguration,
) *corev1ac.ConfigMapApplyConfiguration {
	return corev1ac.ConfigMap(APIServersName, namespace).
		WithLabels(labels()).
		WithOwnerReferences(owner).
		WithData(map[string]string{apiServersKey: strings.Join(addresses, ",")})
}

const (
	labelComponent = "app.kubernetes.io/component"
	componentAgent = "agent"
)

// labels returns those of everything that is installed.
func labels() map[string]string { return map[string]string{"app.kubernetes.io/name": "service-proxy"} }
