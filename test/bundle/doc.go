// Package bundle tests the bundle for OLM in bundle/: by the rules that operator-sdk bundle validate and scorecard check
// it with, as far as they need no cluster with OLM, and by doing in a real API server what OLM does with it.
//
// The rules are those of suite=operatorframework (github.com/operator-framework/api, pkg/validation) with its warnings
// taken for errors. They are written down here because that module cannot be had from the module proxy.
package bundle
