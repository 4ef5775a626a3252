package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of both kinds.
const GroupName = "serviceproxy.io"

// SchemeGroupVersion is GroupVersion under the name by which generated code asks for it.
var SchemeGroupVersion = GroupVersion()

// GroupVersion returns the group and version of this package.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}
}

// AddToScheme registers both kinds and their lists with a scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion(),
		&ServiceProxyConfig{}, &ServiceProxyConfigList{},
		&ServiceProxyNode{}, &ServiceProxyNodeList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion())
	return nil
}
