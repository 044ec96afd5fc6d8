package file

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// A document names its schema, as vlmem/v1 or vlmem/mix/v1. What later changes only by keys that are added is a minor
// of it, vlmem/v1.2: a reader passes over the keys that it does not know. Those of its own version are misspelt.

var minorVersion = regexp.MustCompile(`^[1-9]\d{0,5}$`)

// Newer reports whether a document that says its schema is of a newer minor than the one that its reader knows.
func Newer(said, known string) bool {
	minor, later := strings.CutPrefix(said, known+".")
	return later && minorVersion.MatchString(minor)
}

// Known reports whether a reader of one schema reads a document of another: it is the same, or a newer minor.
func Known(said, known string) bool { return said == known || Newer(said, known) }

// PassedOver is the warning for a document of a newer minor.
func PassedOver(name, said, known string) string {
	return fmt.Sprintf("%s: %s is newer than %s, which this vlmem reads: keys that it does not know are passed over", name,
		said, known)
}

// Decoder reads a JSON document of a schema: strictly, or where it is of a newer minor as far as it is known. What the
// document says is left for its reader to check.
func Decoder(data []byte, known string) *json.Decoder {
	var head struct {
		Schema string `json:"schema"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if d.Decode(&head) != nil || !Newer(head.Schema, known) { // what is broken is told by the reader
		d = json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		return d
	}
	return json.NewDecoder(bytes.NewReader(data))
}
