// Package fleet holds what is tried on real clusters' own code, outside the program and its CI: go test here decodes every
// manifest of deploy/kubernetes strictly into Kubernetes' types and builds each folder with kustomize; slurm.sh runs the array of
// deploy/slurm on a Slurm of two nodes.
package fleet
