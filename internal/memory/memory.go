// Package memory names where memory lies and what lives in it: one Place and one Kind for all rooms.
package memory

import (
	"fmt"
	"slices"
	"strings"
)

// Place is where memory lies.
type Place uint8

// The places. The zero Place is what every machine has.
const (
	Pageable Place = iota // host memory that the system may move and swap
	Pinned                // page-locked host memory: a card copies from it without staging
	Device                // a card's own
	Managed               // addressed by both sides, moved by the driver
)

var placeNames = []string{"pageable", "pinned", "device", "managed"}

// String is the name of the place.
func (p Place) String() string { return name(placeNames, uint8(p)) }

// MarshalText writes the name of the place.
func (p Place) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Kind is what lives in memory, and so the pool that serves it.
type Kind uint8

// The kinds, in the order of their pools' addresses.
const (
	General Kind = iota
	KVCache
	VisionFeatures
	TextEmbeddings
	Stream   // what streams of work use one after another
	Staging  // what a card copies from: the pinned pool
	kindsEnd // not a kind
)

var kindNames = []string{"general", "kv_cache", "vision_features", "text_embeddings", "stream", "pinned"}

// String is the name of the kind's pool.
func (k Kind) String() string { return name(kindNames, uint8(k)) }

// Kinds lists all kinds.
func Kinds() []Kind {
	list := make([]Kind, kindsEnd)
	for i := range list {
		list[i] = Kind(i)
	}
	return list
}

// ParseKind reads the name of a pool; "" is the general one.
func ParseKind(s string) (Kind, error) {
	if s == "" {
		return General, nil
	}
	i, err := find("kind", kindNames, s)
	return Kind(i), err
}

func name(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%d", i)
}

func find(what string, names []string, s string) (int, error) {
	i := slices.Index(names, s)
	if i < 0 {
		return 0, fmt.Errorf("unknown %s %q: want one of %s", what, s, strings.Join(names, ", "))
	}
	return i, nil
}
