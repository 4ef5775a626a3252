package olm

import (
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterServiceVersion is operators.coreos.com/v1alpha1 as far as a bundle without webhooks and API services needs it.
// See https://olm.operatorframework.io/docs/concepts/crds/clusterserviceversion.
type ClusterServiceVersion struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitzero"`

	Spec Spec `json:"spec"`
}

// Spec is what OLM shows to people and how it installs the operator.
type Spec struct {
	DisplayName    string        `json:"displayName"`
	Description    string        `json:"description"`
	Version        string        `json:"version"`
	Replaces       string        `json:"replaces,omitempty"`
	Maturity       string        `json:"maturity"`
	MinKubeVersion string        `json:"minKubeVersion"`
	Keywords       []string      `json:"keywords"`
	Maintainers    []Maintainer  `json:"maintainers"`
	Provider       Link          `json:"provider"`
	Links          []Link        `json:"links"`
	Icon           []Icon        `json:"icon"`
	InstallModes   []InstallMode `json:"installModes"`

	CustomResourceDefinitions CustomResourceDefinitions `json:"customresourcedefinitions"`
	Install                   Install                   `json:"install"`
	RelatedImages             []RelatedImage            `json:"relatedImages,omitempty"`
}

// Maintainer is somebody to write to.
type Maintainer struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Link is a name with an address.
type Link struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// Icon is a picture, in base64.
type Icon struct {
	Data      string `json:"base64data"`
	MediaType string `json:"mediatype"`
}

// InstallMode says whether the operator can be told to watch so many namespaces.
type InstallMode struct {
	Type      string `json:"type"`
	Supported bool   `json:"supported"`
}

// CustomResourceDefinitions are the kinds that come with the operator.
type CustomResourceDefinitions struct {
	Owned []OwnedCRD `json:"owned"`
}

// OwnedCRD describes a kind to people.
type OwnedCRD struct {
	Name              string       `json:"name"`
	Version           string       `json:"version"`
	Kind              string       `json:"kind"`
	DisplayName       string       `json:"displayName"`
	Description       string       `json:"description"`
	Resources         []Resource   `json:"resources"`
	SpecDescriptors   []Descriptor `json:"specDescriptors"`
	StatusDescriptors []Descriptor `json:"statusDescriptors"`
}

// Resource is a kind of objects that are made for one of the owned kind.
type Resource struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Descriptor describes a field to people.
type Descriptor struct {
	Path         string   `json:"path"`
	DisplayName  string   `json:"displayName"`
	Description  string   `json:"description"`
	XDescriptors []string `json:"x-descriptors,omitempty"`
}

// Install is what OLM makes by itself: Deployments, service accounts, and their roles.
type Install struct {
	Strategy string      `json:"strategy"`
	Spec     InstallSpec `json:"spec"`
}

// InstallSpec is an install strategy of deployments.
type InstallSpec struct {
	Deployments        []Deployment  `json:"deployments"`
	ClusterPermissions []Permissions `json:"clusterPermissions,omitempty"`
	Permissions        []Permissions `json:"permissions,omitempty"`
}

// Deployment is a Deployment in the namespace that OLM installs into.
type Deployment struct {
	Name  string                `json:"name"`
	Label map[string]string     `json:"label,omitempty"`
	Spec  appsv1.DeploymentSpec `json:"spec"`
}

// Permissions are what a service account may do.
type Permissions struct {
	ServiceAccountName string              `json:"serviceAccountName"`
	Rules              []rbacv1.PolicyRule `json:"rules"`
}

// RelatedImage is an image that the operator runs or is. A mirror needs to know all of them.
type RelatedImage struct {
	Name  string `json:"name"`
	Image string `json:"image"`
}
