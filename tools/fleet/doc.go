// Package fleet holds what is tried on real clusters' own code, outside the program and its CI: go test here decodes
// every manifest of deploy/kubernetes strictly into Kubernetes' types and builds each folder with kustomize.
package fleet
