package main

import (
	"os"
	"testing"
)

// Faults have their places. Code that changes may lose some, which -list names, but not many.
func TestFaultsHavePlaces(t *testing.T) {
	if err := os.Chdir("../.."); err != nil {
		t.Fatal(err)
	}
	faults, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	there := 0
	for _, f := range faults {
		if _, err := f.apply(); err != nil {
			t.Log(err)
			continue
		}
		there++
	}
	if there < 50 {
		t.Errorf("%d of %d faults have a place, want at least 50", there, len(faults))
	}
}
