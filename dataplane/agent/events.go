package agent

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"github.com/serviceproxy/service-proxy-operator/dataplane/apiserver"
)

// events writes events. It is what the clientset of client-go has for it, without the clientset.
type events struct {
	ctx    context.Context //nolint:containedctx // record.EventSink knows no contexts
	client rest.Interface
}

var _ record.EventSink = (*events)(nil)

// startEvents returns what records events of the agent on a node until stop is called.
func startEvents(ctx context.Context, config *rest.Config, nodeName string) (recorder record.EventRecorder, stop func(), err error) {
	client, err := apiserver.NewClient(config, corev1.SchemeGroupVersion, corev1.AddToScheme)
	if err != nil {
		return nil, nil, fmt.Errorf("starting to record events: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&events{ctx: ctx, client: client})
	return broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: fieldManager, Host: nodeName}), broadcaster.Shutdown, nil
}

func (e *events) Create(event *corev1.Event) (*corev1.Event, error) {
	var result corev1.Event
	return &result, e.client.Post().Namespace(event.Namespace).Resource("events").Body(event).Do(e.ctx).Into(&result)
}

func (e *events) Update(event *corev1.Event) (*corev1.Event, error) {
	var result corev1.Event
	return &result, e.client.Put().Namespace(event.Namespace).Resource("events").Name(event.Name).Body(event).Do(e.ctx).Into(&result)
}

func (e *events) Patch(old *corev1.Event, data []byte) (*corev1.Event, error) {
	var result corev1.Event
	return &result, e.client.Patch(types.StrategicMergePatchType).Namespace(old.Namespace).Resource("events").Name(old.Name).Body(data).Do(e.ctx).Into(&result)
}
