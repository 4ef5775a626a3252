// Package olm makes a bundle for the Operator Lifecycle Manager, format registry+v1, out of the objects that kubectl
// would apply. Nothing is left out without a word: an object that has no place in a bundle is an error.
//
// It does what `operator-sdk generate bundle` does, which cannot be had as a Go module.
package olm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Options are what a bundle is made of besides objects.
type Options struct {
	// Package is the name of the operator in catalogs.
	Package string
	// Channels are those that the version is published in, the default one first.
	Channels []string
	// Images has references, with a tag or a digest, to take for repositories that objects name without either. The tag
	// is v and the version of the CSV where there is none.
	Images map[string]string
}

// Make returns the files of a bundle by their paths.
func Make(objects []*unstructured.Unstructured, options Options) (map[string][]byte, error) {
	b := &bundle{options: options, bound: map[string]bool{}}
	if err := b.sort(objects); err != nil {
		return nil, err
	}
	for _, step := range []func() error{b.grant, b.own, b.deploy, b.showExamples, b.suggestNamespace} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return b.files()
}

// bundle is objects by what becomes of them.
type bundle struct {
	options     Options
	csv         *ClusterServiceVersion
	crds        []*apiextensionsv1.CustomResourceDefinition
	deployments []*appsv1.Deployment
	namespaces  []*corev1.Namespace
	accounts    []string
	roles       []*rbacv1.Role        // of ClusterRoles too, which have no namespace
	bindings    []*rbacv1.RoleBinding // likewise
	bound       map[string]bool       // the roles, as kind/name, that the CSV has
	plain       []*unstructured.Unstructured
	examples    []*unstructured.Unstructured
	scorecard   *unstructured.Unstructured
}

// sort looks at the kind of every object. The kinds that may stand in a bundle as they are, are those of registry+v1 that
// this operator has a use for.
func (b *bundle) sort(objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		var err error
		switch object.GetKind() {
		case "ClusterServiceVersion":
			b.csv, err = convert[ClusterServiceVersion](object)
		case "CustomResourceDefinition":
			err = appendTo(&b.crds, object)
			b.plain = append(b.plain, object)
		case "Deployment":
			err = appendTo(&b.deployments, object)
		case "Namespace":
			err = appendTo(&b.namespaces, object)
		case "ServiceAccount":
			b.accounts = append(b.accounts, object.GetName())
		case "Role", "ClusterRole":
			err = appendTo(&b.roles, object)
		case "RoleBinding", "ClusterRoleBinding":
			err = appendTo(&b.bindings, object)
		case "Configuration":
			b.scorecard = object
		case "Service", "ServiceMonitor", "PrometheusRule", "PodDisruptionBudget", "PriorityClass", "ConfigMap", "NetworkPolicy":
			b.plain = append(b.plain, object)
		default:
			b.examples = append(b.examples, object)
		}
		if err != nil {
			return fmt.Errorf("reading %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	switch {
	case b.csv == nil:
		return errors.New("there is no ClusterServiceVersion to start from")
	case b.scorecard == nil:
		return errors.New("there is no Configuration of scorecard")
	case len(b.deployments) == 0:
		return errors.New("there is no Deployment to install")
	}
	return nil
}

// grant turns service accounts and what they are bound to into permissions, for which OLM makes accounts, roles and
// bindings in the namespace that it installs into. Roles that are bound to nobody are for people, and stay what they are.
func (b *bundle) grant() error {
	for _, binding := range b.bindings {
		role := slices.IndexFunc(b.roles, func(role *rbacv1.Role) bool {
			return role.Kind == binding.RoleRef.Kind && role.Name == binding.RoleRef.Name &&
				(role.Kind == "ClusterRole" || role.Namespace == binding.Namespace)
		})
		if role < 0 {
			return fmt.Errorf("%s %s refers to the missing %s %s",
				binding.Kind, binding.Name, binding.RoleRef.Kind, binding.RoleRef.Name)
		}
		list := &b.csv.Spec.Install.Spec.ClusterPermissions
		if binding.Kind == "RoleBinding" {
			list = &b.csv.Spec.Install.Spec.Permissions
		}
		for _, subject := range binding.Subjects {
			if subject.Kind != rbacv1.ServiceAccountKind || !slices.Contains(b.accounts, subject.Name) {
				return fmt.Errorf("%s %s is for %s %s, which OLM does not make",
					binding.Kind, binding.Name, subject.Kind, subject.Name)
			}
			if binding.Kind == "RoleBinding" && binding.Namespace != subject.Namespace {
				return fmt.Errorf("RoleBinding %s is in namespace %s, which OLM does not install into",
					binding.Name, binding.Namespace)
			}
			*list = allow(*list, subject.Name, b.roles[role].Rules)
		}
		b.bound[binding.RoleRef.Kind+"/"+binding.RoleRef.Name] = true
	}
	for _, account := range b.accounts {
		holds := func(p Permissions) bool { return p.ServiceAccountName == account }
		install := b.csv.Spec.Install.Spec
		if !slices.ContainsFunc(install.ClusterPermissions, holds) && !slices.ContainsFunc(install.Permissions, holds) {
			return fmt.Errorf("service account %s has no permission, so OLM would not make it", account)
		}
	}
	for _, role := range b.roles {
		if b.bound[role.Kind+"/"+role.Name] {
			continue
		}
		if role.Kind == "Role" {
			return fmt.Errorf("role %s is bound to nobody", role.Name)
		}
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(role)
		if err != nil {
			return fmt.Errorf("writing ClusterRole %s: %w", role.Name, err)
		}
		b.plain = append(b.plain, &unstructured.Unstructured{Object: object})
	}
	return nil
}

// allow adds rules to those of an account.
func allow(list []Permissions, account string, rules []rbacv1.PolicyRule) []Permissions {
	i := slices.IndexFunc(list, func(p Permissions) bool { return p.ServiceAccountName == account })
	if i < 0 {
		i = len(list)
		list = append(list, Permissions{ServiceAccountName: account})
	}
	list[i].Rules = append(list[i].Rules, rules...)
	slices.SortStableFunc(list, func(a, b Permissions) int { return cmp.Compare(a.ServiceAccountName, b.ServiceAccountName) })
	return list
}

// own describes the kinds. What the schema cannot say, the CSV that is started from does.
func (b *bundle) own() error {
	said := b.csv.Spec.CustomResourceDefinitions.Owned
	var owned []OwnedCRD
	for _, crd := range b.crds {
		i := slices.IndexFunc(said, func(o OwnedCRD) bool { return o.Kind == crd.Spec.Names.Kind })
		if i < 0 {
			return fmt.Errorf("the ClusterServiceVersion says nothing of kind %s", crd.Spec.Names.Kind)
		}
		described, err := describe(crd, said[i])
		if err != nil {
			return err
		}
		owned = append(owned, described)
	}
	if len(owned) != len(said) {
		return fmt.Errorf("the ClusterServiceVersion speaks of %d kinds, and there are %d", len(said), len(owned))
	}
	slices.SortFunc(owned, func(a, b OwnedCRD) int { return cmp.Compare(a.Name, b.Name) })
	b.csv.Spec.CustomResourceDefinitions.Owned = owned
	return nil
}

// relatedImage is the prefix of variables that name an image which the operator runs.
const relatedImage = "RELATED_IMAGE_"

// deploy takes over the Deployments, with images of this version.
func (b *bundle) deploy() error {
	b.csv.Name = b.options.Package + ".v" + b.csv.Spec.Version
	// Every version can follow any one before it: the kinds change compatibly, and the operator keeps nothing elsewhere.
	metav1.SetMetaDataAnnotation(&b.csv.ObjectMeta, "olm.skipRange", "<"+b.csv.Spec.Version)
	b.csv.Spec.Install.Strategy = "deployment"
	var related []RelatedImage
	for _, deployment := range b.deployments {
		for i := range deployment.Spec.Template.Spec.Containers {
			container := &deployment.Spec.Template.Spec.Containers[i]
			container.Image = b.image(container.Image)
			related = append(related, RelatedImage{Name: container.Name, Image: container.Image})
			for j := range container.Env {
				variable := &container.Env[j]
				name, is := strings.CutPrefix(variable.Name, relatedImage)
				if !is {
					continue
				}
				if variable.Value == "" {
					return fmt.Errorf("%s of Deployment %s has no value", variable.Name, deployment.Name)
				}
				variable.Value = b.image(variable.Value)
				related = append(related, RelatedImage{Name: strings.ToLower(name), Image: variable.Value})
			}
		}
		b.csv.Spec.Install.Spec.Deployments = append(b.csv.Spec.Install.Spec.Deployments, Deployment{
			Name: deployment.Name, Label: deployment.Labels, Spec: deployment.Spec,
		})
	}
	b.csv.Spec.RelatedImages = related
	metav1.SetMetaDataAnnotation(&b.csv.ObjectMeta, "containerImage", related[0].Image)
	return nil
}

// image returns a reference with a tag or a digest.
func (b *bundle) image(reference string) string {
	if strings.Contains(reference[strings.LastIndex(reference, "/")+1:], ":") || strings.Contains(reference, "@") {
		return reference
	}
	if chosen, found := b.options.Images[reference]; found {
		return chosen
	}
	return reference + ":v" + b.csv.Spec.Version
}

// showExamples takes over objects of the kinds that are owned. There is no place for others.
func (b *bundle) showExamples() error {
	for _, object := range b.examples {
		kind := object.GroupVersionKind()
		if !slices.ContainsFunc(b.crds, func(crd *apiextensionsv1.CustomResourceDefinition) bool {
			return crd.Spec.Group == kind.Group && crd.Spec.Names.Kind == kind.Kind
		}) {
			return fmt.Errorf("a bundle cannot hold the %s %s: let the operator apply it", kind.Kind, object.GetName())
		}
	}
	text, err := json.MarshalIndent(b.examples, "", "  ")
	if err != nil {
		return fmt.Errorf("writing examples: %w", err)
	}
	metav1.SetMetaDataAnnotation(&b.csv.ObjectMeta, "alm-examples", string(text))
	return nil
}

// suggestNamespace says what the namespace has to be like, which a bundle cannot bring along.
func (b *bundle) suggestNamespace() error {
	if len(b.namespaces) != 1 {
		return fmt.Errorf("there are %d namespaces to suggest", len(b.namespaces))
	}
	namespace := &metav1.PartialObjectMetadata{
		TypeMeta:   b.namespaces[0].TypeMeta,
		ObjectMeta: b.namespaces[0].ObjectMeta,
	}
	text, err := json.Marshal(namespace)
	if err != nil {
		return fmt.Errorf("writing Namespace %s: %w", namespace.Name, err)
	}
	metav1.SetMetaDataAnnotation(&b.csv.ObjectMeta, "operatorframework.io/suggested-namespace", namespace.Name)
	metav1.SetMetaDataAnnotation(&b.csv.ObjectMeta, "operatorframework.io/suggested-namespace-template", string(text))
	return nil
}

// convert reads an object strictly into its type: what the type does not know, is an error.
func convert[T any](object *unstructured.Unstructured) (*T, error) {
	into := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, into, true); err != nil {
		return nil, err
	}
	return into, nil
}

func appendTo[T any](list *[]*T, object *unstructured.Unstructured) error {
	converted, err := convert[T](object)
	if err != nil {
		return err
	}
	*list = append(*list, converted)
	return nil
}
