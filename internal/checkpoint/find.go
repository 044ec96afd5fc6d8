package checkpoint

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/vlmem/vlmem/internal/file"
)

// Places is where programs of this machine keep models.
type Places struct {
	Hub    string // of Hugging Face: HF_HUB_CACHE, HF_HOME/hub, ~/.cache/huggingface/hub
	Ollama string // OLLAMA_MODELS, ~/.ollama/models
}

// Here reads the places from the environment, as those programs do.
func Here() Places {
	home, _ := os.UserHomeDir()
	or := func(value, otherwise string) string {
		if value != "" {
			return value
		}
		return otherwise
	}
	cache := or(os.Getenv("XDG_CACHE_HOME"), filepath.Join(home, ".cache"))
	hub := filepath.Join(or(os.Getenv("HF_HOME"), filepath.Join(cache, "huggingface")), "hub")
	return Places{
		Hub:    or(os.Getenv("HF_HUB_CACHE"), hub),
		Ollama: or(os.Getenv("OLLAMA_MODELS"), filepath.Join(home, ".ollama", "models")),
	}
}

// Snapshot is the folder of a repository's newest snapshot in the hub's cache, "" where the cache has no config.json of
// it.
func (p Places) Snapshot(repository string) string {
	if strings.Count(repository, "/") != 1 || strings.ContainsAny(repository, `\:`) || strings.Contains(repository, "..") {
		return ""
	}
	root := filepath.Join(p.Hub, "models--"+strings.ReplaceAll(repository, "/", "--"))
	revision, err := file.ReadRegular(filepath.Join(root, "refs", "main"), file.Document)
	if err != nil {
		return ""
	}
	folder := filepath.Join(root, "snapshots", filepath.Base(strings.TrimSpace(string(revision))))
	if _, err := os.Stat(filepath.Join(folder, "config.json")); err != nil {
		return ""
	}
	return folder
}

// Blob is the GGUF of a model that Ollama has, and that of its tower; "" where it has none. A name is MODEL[:TAG] or
// USER/MODEL[:TAG].
func (p Places) Blob(name string) (model, tower string) {
	name, tag, _ := strings.Cut(name, ":")
	if tag == "" {
		tag = "latest"
	}
	if !strings.Contains(name, "/") {
		name = "library/" + name
	}
	if strings.Contains(name+tag, "..") || strings.ContainsAny(tag, `/\`) {
		return "", ""
	}
	data, err := file.ReadRegular(filepath.Join(p.Ollama, "manifests", "registry.ollama.ai", filepath.FromSlash(name),
		tag),
		file.Document)
	if err != nil {
		return "", ""
	}
	var manifest struct {
		Layers []struct {
			Kind   string `json:"mediaType"`
			Digest string `json:"digest"`
		} `json:"layers"`
	}
	if json.Unmarshal(data, &manifest) != nil {
		return "", ""
	}
	for _, l := range manifest.Layers {
		blob := filepath.Join(p.Ollama, "blobs", filepath.Base(strings.ReplaceAll(l.Digest, ":", "-")))
		switch l.Kind {
		case "application/vnd.ollama.image.model":
			model = blob
		case "application/vnd.ollama.image.projector":
			tower = blob
		}
	}
	return model, tower
}
