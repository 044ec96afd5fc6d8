package main

import (
	"os"
	"testing"
)

// Every fault has its place: code that changes takes its fault along.
func TestFaultsHavePlaces(t *testing.T) {
	if err := os.Chdir("../.."); err != nil {
		t.Fatal(err)
	}
	faults, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		if _, err := f.apply(); err != nil {
			t.Error(err)
		}
	}
	if len(faults) < 60 {
		t.Errorf("%d faults, want at least 60", len(faults))
	}
}
