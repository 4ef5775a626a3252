// Package gitops tests that tools which apply things from Git and wait for them are told the truth: what kubectl wait,
// Flux (kstatus) and Argo CD (config/argocd) read from the status of both kinds, as it stands in a table and as it
// changes in a real API server; and that what config/ holds for Git to apply is accepted there.
package gitops
