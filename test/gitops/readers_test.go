package gitops

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/serviceproxy/service-proxy-operator/api/v1alpha1"
)

// verdict is what three readers make of one version of an object.
type verdict struct {
	Wait string // Ready, or "", as kubectl wait --for=condition=Ready goes on waiting
	Flux status.Status
	Argo string
}

// What is said of a config in every situation there is. Nothing else may ever be read from one: no tool may take for
// done what another one waits for.
var (
	done     = verdict{Wait: v1alpha1.ConditionReady, Flux: status.CurrentStatus, Argo: "Healthy"}
	onItsWay = verdict{Flux: status.InProgressStatus, Argo: "Progressing"}
	paused   = verdict{Flux: status.InProgressStatus, Argo: "Suspended"}
	doomed   = verdict{Flux: status.FailedStatus, Argo: "Degraded"}
)

// broken is what is said of a node that reports a failure. Its agent goes on trying, so for kstatus, which cannot say
// both, it is on its way; its config is the one that is doomed.
var broken = verdict{Flux: status.InProgressStatus, Argo: "Degraded"}

// read returns what all readers make of an object.
func read(object *unstructured.Unstructured) (verdict, error) {
	flux, err := status.Compute(object)
	if err != nil {
		return verdict{}, fmt.Errorf("computing kstatus: %w", err)
	}
	argo, err := argoHealth(object)
	if err != nil {
		return verdict{}, fmt.Errorf("computing the health for Argo CD: %w", err)
	}
	return verdict{Wait: waitFor(object, v1alpha1.ConditionReady), Flux: flux.Status, Argo: argo.status}, nil
}

// waitFor returns the condition if kubectl wait --for=condition=NAME returns with this version of the object: it is
// True, and speaks of this generation.
func waitFor(object *unstructured.Unstructured, name string) string {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, c := range conditions {
		condition, isMap := c.(map[string]any)
		if !isMap || condition["type"] != name {
			continue
		}
		observed, found, _ := unstructured.NestedInt64(condition, "observedGeneration")
		if !found {
			observed, _, _ = unstructured.NestedInt64(object.Object, "status", "observedGeneration")
		}
		if condition["status"] == "True" && observed >= object.GetGeneration() {
			return name
		}
	}
	return ""
}

// health is the result of a health check in Argo CD.
type health struct{ status, message string }

// argoHealth runs the health check for the kind of the object in the way of Argo CD (its util/lua): the object in the
// global obj, only the libraries package, base and table (not even its harmless part of os), a second of time, and
// the table that the script returns.
func argoHealth(object *unstructured.Unstructured) (health, error) {
	script, err := os.ReadFile("../../config/argocd/" + object.GetKind() + ".lua")
	if err != nil {
		return health{}, err
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return health{}, fmt.Errorf("opening library %s: %w", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", toLua(state, object.Object))
	if err := state.DoString(string(script)); err != nil {
		return health{}, err
	}
	result, isTable := state.Get(-1).(*lua.LTable)
	if !isTable {
		return health{}, fmt.Errorf("the script returned a %s and not a table", state.Get(-1).Type())
	}
	told := health{status: result.RawGetString("status").String(), message: result.RawGetString("message").String()}
	if known := []string{"Healthy", "Progressing", "Suspended", "Degraded", "Missing", "Unknown"}; !slices.Contains(known, told.status) {
		return health{}, fmt.Errorf("the script returned the status %q", told.status)
	}
	return told, nil
}

// toLua turns a value of JSON into one of Lua.
func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case string:
		return lua.LString(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case []any:
		list := state.NewTable()
		for _, item := range value {
			list.Append(toLua(state, item))
		}
		return list
	case map[string]any:
		table := state.NewTable()
		for key, item := range value {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	default:
		return lua.LNil
	}
}
