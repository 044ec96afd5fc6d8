package fleet

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const manifests = "../../deploy/kubernetes"

// decode reads one document into the type of its kind; an unknown field is an error.
func decode(document []byte) error {
	var head struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(document, &head); err != nil {
		return err
	}
	into := map[string]any{"Namespace": &corev1.Namespace{}, "DaemonSet": &appsv1.DaemonSet{}, "Job": &batchv1.Job{},
		"PersistentVolumeClaim": &corev1.PersistentVolumeClaim{}, "Kustomization": &types.Kustomization{}}[head.Kind]
	if into == nil {
		return os.ErrInvalid
	}
	return yaml.UnmarshalStrict(document, into)
}

func TestManifestsDecodeStrictly(t *testing.T) {
	files := 0
	err := filepath.WalkDir(manifests, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for document := range bytes.SplitSeq(data, []byte("\n---\n")) {
			files++
			if err := decode(document); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		return nil
	})
	if err != nil || files < 10 {
		t.Fatalf("%d files, %v", files, err)
	}
}

func TestFoldersBuild(t *testing.T) {
	for folder, want := range map[string][]string{
		"base":  {"kind: DaemonSet", "namespace: vlmem", `"9851"`},
		"port":  {"kind: DaemonSet", ":9851", "containerPort: 9851"},
		"gpu":   {"runtimeClassName: nvidia", "NVIDIA_VISIBLE_DEVICES"},
		"bench": {"kind: Job", "kind: PersistentVolumeClaim", "completionMode: Indexed"},
	} {
		built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(manifests,
			folder))
		if err != nil {
			t.Errorf("%s: %v", folder, err)
			continue
		}
		text, err := built.AsYaml()
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s: no %q in\n%s", folder, w, text)
			}
		}
		for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
			if err := decode(document); err != nil {
				t.Errorf("%s: %v\n%s", folder, err, document)
			}
		}
	}
}
