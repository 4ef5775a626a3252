package install

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	admissionv1ac "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// GuardName is the name of the ValidatingAdmissionPolicy that keeps every agent to the status of its own node's object,
// and of its binding. RBAC alone cannot: it knows no "own node".
const GuardName = "service-proxy-agent-guard"

// probeName is a ServiceProxyNode that nobody has. The guard refuses every dry run that is about it, whoever asks, so
// that the operator can see with no more than its own rights whether the guard is in force.
const probeName = "guard-probe.serviceproxy.io"

// guard is the policy and what puts it into force, as they are applied.
type guard struct {
	policy  *admissionv1ac.ValidatingAdmissionPolicyApplyConfiguration
	binding *admissionv1ac.ValidatingAdmissionPolicyBindingApplyConfiguration
}

func renderGuard(namespace string, owner *metav1ac.OwnerReferenceApplyConfiguration) guard {
	return guard{policy: guardPolicy(namespace, owner), binding: guardBinding(owner)}
}

// guardPolicy renders the policy for the agents of a namespace.
//
// The node of an agent is what the API server knows of its token (KEP-4193): a token that a kubelet mounts is bound to
// its Pod, and says which node that runs on. Fields that may be absent are read with "?", because an expression that
// fails denies as well, but with a message that helps nobody.
func guardPolicy(namespace string, owner *metav1ac.OwnerReferenceApplyConfiguration) *admissionv1ac.ValidatingAdmissionPolicyApplyConfiguration {
	agent := fmt.Sprintf("system:serviceaccount:%s:%s", namespace, AgentName)
	return admissionv1ac.ValidatingAdmissionPolicy(GuardName).
		WithLabels(labels()).
		WithOwnerReferences(owner).
		WithSpec(admissionv1ac.ValidatingAdmissionPolicySpec().
			WithFailurePolicy(admissionv1.Fail).
			WithMatchConstraints(admissionv1ac.MatchResources().
				WithMatchPolicy(admissionv1.Equivalent).
				WithNamespaceSelector(metav1ac.LabelSelector()).
				WithObjectSelector(metav1ac.LabelSelector()).
				WithResourceRules(admissionv1ac.NamedRuleWithOperations().
					WithAPIGroups(v1alpha1.GroupName).
					WithAPIVersions("*").
					WithResources("serviceproxynodes", "serviceproxynodes/status").
					WithOperations(admissionv1.Create, admissionv1.Update, admissionv1.Delete).
					WithScope(admissionv1.AllScopes))).
			WithMatchConditions(admissionv1ac.MatchCondition().
				WithName("agent-or-probe").
				WithExpression(fmt.Sprintf("request.userInfo.username == '%s' || "+
					"(request.?dryRun.orValue(false) && request.?name.orValue('') == '%s')", agent, probeName))).
			WithVariables(
				admissionv1ac.Variable().
					WithName("tokenNode").
					WithExpression("request.userInfo.?extra[?'authentication.kubernetes.io/node-name'][?0].orValue('')"),
				admissionv1ac.Variable().
					WithName("target").
					WithExpression("request.operation == 'DELETE' ? oldObject : object")).
			WithValidations(
				forbid("request.operation == 'UPDATE' && request.?subResource.orValue('') == 'status'",
					"an agent may write the status of a ServiceProxyNode, and nothing else of it"),
				forbid("variables.tokenNode != ''",
					"an agent must use the token of its Pod, which says on which node it runs"),
				forbid("variables.target.metadata.name == variables.tokenNode",
					"an agent may write to the ServiceProxyNode of its own node, and to no other")))
}

// forbid returns a validation that refuses whatever the expression is not true of.
func forbid(unless, message string) *admissionv1ac.ValidationApplyConfiguration {
	return admissionv1ac.Validation().WithExpression(unless).WithMessage(message).WithReason(metav1.StatusReasonForbidden)
}

// guardBinding renders what puts the policy into force.
func guardBinding(owner *metav1ac.OwnerReferenceApplyConfiguration) *admissionv1ac.ValidatingAdmissionPolicyBindingApplyConfiguration {
	return admissionv1ac.ValidatingAdmissionPolicyBinding(GuardName).
		WithLabels(labels()).
		WithOwnerReferences(owner).
		WithSpec(admissionv1ac.ValidatingAdmissionPolicyBindingSpec().
			WithPolicyName(GuardName).
			WithValidationActions(admissionv1.Deny))
}

// guardProbe returns the object of the probe. It is as valid as any, so that nothing but the guard refuses it.
func guardProbe() *v1alpha1.ServiceProxyNode {
	return &v1alpha1.ServiceProxyNode{
		ObjectMeta: metav1.ObjectMeta{Name: probeName},
		Spec: v1alpha1.ServiceProxyNodeSpec{
			ConfigRef:     v1alpha1.ConfigReference{Name: "guard-probe", Generation: new(int64(0))},
			Revision:      "guard-probe",
			ProxySettings: v1alpha1.ProxySettings{Mode: v1alpha1.ModeIPTables},
		},
	}
}

// refusedBy tells whether the message of an error is that of the guard.
func refusedBy(message string) bool {
	return strings.Contains(message, fmt.Sprintf("ValidatingAdmissionPolicy '%s'", GuardName))
}

// findChange returns why what the API server has is not the guard that we want, or "". Server-side apply puts our
// fields right and lets those of others be, and one match condition more can take all force out of a policy.
func findChange(
	want guard, policy *admissionv1.ValidatingAdmissionPolicy, binding *admissionv1.ValidatingAdmissionPolicyBinding,
) (string, error) {
	var (
		wantPolicy  admissionv1.ValidatingAdmissionPolicySpec
		wantBinding admissionv1.ValidatingAdmissionPolicyBindingSpec
	)
	if err := convert(want.policy.Spec, &wantPolicy); err != nil {
		return "", err
	}
	if err := convert(want.binding.Spec, &wantBinding); err != nil {
		return "", err
	}
	for kind, same := range map[string]bool{
		"ValidatingAdmissionPolicy":        apiequality.Semantic.DeepEqual(policy.Spec, wantPolicy),
		"ValidatingAdmissionPolicyBinding": apiequality.Semantic.DeepEqual(binding.Spec, wantBinding),
	} {
		if !same {
			return fmt.Sprintf("somebody has added to %s %s; delete it, and it will be made anew", kind, GuardName), nil
		}
	}
	return "", nil
}

// findWarning returns what kube-controller-manager has against the expressions of the policy, or "".
func findWarning(policy *admissionv1.ValidatingAdmissionPolicy) string {
	status := policy.Status
	if status.ObservedGeneration != policy.Generation || status.TypeChecking == nil {
		return fmt.Sprintf("kube-controller-manager has not checked ValidatingAdmissionPolicy %s; "+
			"its validatingadmissionpolicy-status-controller must run", GuardName)
	}
	warnings := status.TypeChecking.ExpressionWarnings
	if len(warnings) == 0 {
		return ""
	}
	first := slices.MinFunc(warnings, func(a, b admissionv1.ExpressionWarning) int { return strings.Compare(a.FieldRef, b.FieldRef) })
	return fmt.Sprintf("ValidatingAdmissionPolicy %s has warnings, first in %s: %s", GuardName, first.FieldRef, first.Warning)
}

// convert makes a type from the apply configuration that was generated for it: both have one JSON form.
func convert(from, to any) error {
	text, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		return fmt.Errorf("rendering the guard: %w", err)
	}
	return nil
}
