// What GitOps tools take an object for: the code of kstatus and Flux, and Argo CD's Lua, over objects from a file.
//
// Usage: gitops HEALTH.lua < INPUT, where INPUT is {"objects": [...], "exprs": {inProgress, failed, current}} as JSON;
// prints a list of {"argocd", "message", "flux", "kstatus"}.
package main

import (
	"context"
	"encoding/json"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type input struct {
	Objects []*unstructured.Unstructured      `json:"objects"`
	Exprs   kustomize.HealthCheckExpressions `json:"exprs"`
}

type taken struct {
	ArgoCD  string `json:"argocd"`
	Message string `json:"message"`
	Flux    string `json:"flux"`
	Kstatus string `json:"kstatus"`
}

func main() {
	script, err := os.ReadFile(os.Args[1])
	must(err)
	var given input
	must(json.NewDecoder(os.Stdin).Decode(&given))
	evaluator, err := cel.NewStatusEvaluator(&given.Exprs)
	must(err)
	said := []taken{}
	for _, object := range given.Objects {
		flux, err := evaluator.Evaluate(context.Background(), object)
		must(err)
		computed, err := status.Compute(object)
		must(err)
		health, message := argocd(string(script), object.Object)
		said = append(said, taken{health, message, string(flux.Status), string(computed.Status)})
	}
	must(json.NewEncoder(os.Stdout).Encode(said))
}

// As Argo CD does (util/lua): the object is a global, and the script returns a table with status and message.
func argocd(script string, object map[string]any) (string, string) {
	state := lua.NewState()
	defer state.Close()
	state.SetGlobal("obj", value(state, object))
	must(state.DoString(script))
	table := state.Get(-1).(*lua.LTable)
	return table.RawGetString("status").String(), table.RawGetString("message").String()
}

func value(state *lua.LState, from any) lua.LValue {
	switch each := from.(type) {
	case map[string]any:
		table := state.NewTable()
		for name, inner := range each {
			table.RawSetString(name, value(state, inner))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, inner := range each {
			table.Append(value(state, inner))
		}
		return table
	case string:
		return lua.LString(each)
	case bool:
		return lua.LBool(each)
	case int64:
		return lua.LNumber(each)
	case float64:
		return lua.LNumber(each)
	}
	return lua.LNil
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
