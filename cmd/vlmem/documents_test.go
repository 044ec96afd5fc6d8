package main

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra/doc"
)

var documents = flag.String("documents", "", "keep the man pages and completions that TestDocuments makes in this "+
	"folder")

// TestDocuments makes a man page for every command and the completions of three shells, as a release carries them.
// They are made by a test so that the program itself need not carry what makes them.
func TestDocuments(t *testing.T) {
	folder := *documents
	if folder == "" {
		folder = t.TempDir()
	}
	man, completions := filepath.Join(folder, "man"), filepath.Join(folder, "completions")
	for _, dir := range []string{man, completions} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := newRootCmd(&environment{})
	root.DisableAutoGenTag = true
	if err := doc.GenManTree(root, &doc.GenManHeader{Title: "VLMEM", Section: "1", Source: "vlmem"}, man); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(*bytes.Buffer) error{
		"vlmem.bash": func(b *bytes.Buffer) error { return root.GenBashCompletionV2(b, true) },
		"_vlmem":     func(b *bytes.Buffer) error { return root.GenZshCompletion(b) },
		"vlmem.fish": func(b *bytes.Buffer) error { return root.GenFishCompletion(b, true) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil || !bytes.Contains(b.Bytes(), []byte("vlmem")) {
			t.Errorf("%s: %d bytes, %v", name, b.Len(), err)
		}
		if err := os.WriteFile(filepath.Join(completions, name), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pages, err := fs.Glob(os.DirFS(man), "vlmem-*.1")
	if want := len(root.Commands()); err != nil || len(pages) < want {
		t.Errorf("%d man pages for %d commands, %v", len(pages), want, err)
	}
}
