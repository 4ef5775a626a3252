package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// tokenLife is how long a service account's token is valid: the longest run anybody waits for.
const tokenLife = 24 * time.Hour

// Kubeconfig returns the path of a kubeconfig of a cluster administrator, for processes of the machine.
func (c *Cluster) Kubeconfig() string { return c.dir.path("admin.kubeconfig") }

// NodeKubeconfig returns the path of a kubeconfig of a cluster administrator, for processes on nodes and pods.
func (c *Cluster) NodeKubeconfig() string { return c.dir.path("admin-lan.kubeconfig") }

// ServiceAccountKubeconfig returns the path of a new kubeconfig of a service account, which must exist, for processes
// on nodes and pods: what such a process may do is what RBAC gives the account.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	return c.accountKubeconfig(ctx, namespace, name, name, nil)
}

// BoundKubeconfig returns the path of a new kubeconfig of the service account of a Pod in the API. Its token is bound to
// the Pod, as the one that a kubelet mounts, so that the API server knows on which node it is used.
func (c *Cluster) BoundKubeconfig(ctx context.Context, pod *corev1.Pod) (string, error) {
	return c.accountKubeconfig(ctx, pod.Namespace, pod.Spec.ServiceAccountName, pod.Name, &authenticationv1.BoundObjectReference{
		APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID,
	})
}

func (c *Cluster) accountKubeconfig(
	ctx context.Context, namespace, account, holder string, bound *authenticationv1.BoundObjectReference,
) (string, error) {
	object := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}
	seconds := int64(tokenLife / time.Second)
	request := &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds, BoundObjectRef: bound},
	}
	if err := c.client.SubResource("token").Create(ctx, object, request); err != nil {
		return "", fmt.Errorf("requesting a token for service account %s/%s: %w", namespace, account, err)
	}
	path := c.dir.path(fmt.Sprintf("serviceaccount_%s_%s.kubeconfig", namespace, holder))
	user := &clientcmdapi.AuthInfo{Token: request.Status.Token}
	if err := writeKubeconfig(path, c.controlPlane.lanURL(), c.controlPlane.authority.certificate, user); err != nil {
		return "", err
	}
	return path, nil
}

// writeKubeconfig writes a kubeconfig that needs no other file.
func writeKubeconfig(path, server string, authority []byte, user *clientcmdapi.AuthInfo) error {
	const name = "test"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: authority}
	config.AuthInfos[name] = user
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	return nil
}
