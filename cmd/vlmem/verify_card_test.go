package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/cuda/standin"
)

// onThisMachine is a configuration of this machine as it reports itself, with the card of a stand-in driver.
func onThisMachine(t *testing.T, library string) string {
	t.Helper()
	variables := []string{"VLMEM_LIBCUDA=" + library}
	here := vlmem(t, variables, "probe", "--reported", "--format", "yaml")
	if here.code != 0 {
		t.Fatalf("exit %d: %s", here.code, here.stderr)
	}
	got := vlmem(t, variables, "advise", "--hardware", write(t, "here.yaml", here.stdout), "--model", "qwen3-vl-2b",
		"--image", "320x240", "--context", "1024", "--seeds", "4")
	if got.code != 0 {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	return write(t, "config.yaml", got.stdout)
}

// claims runs verify through a driver and returns its exit and its claims by name.
func claims(t *testing.T, config, library string) (int, map[string]advise.Claim) {
	t.Helper()
	got := vlmem(t, []string{"VLMEM_LIBCUDA=" + library}, "verify", config, "--seeds", "2", "--format", "json")
	var v advise.Verification
	if err := json.Unmarshal([]byte(got.stdout), &v); err != nil {
		t.Fatalf("exit %d, %v: %s", got.code, err, got.stderr)
	}
	list := map[string]advise.Claim{}
	for _, c := range v.Claims {
		list[c.What] = c
	}
	return got.code, list
}

// TestVerifyOnACard holds a configuration against a card that is idle, full, smaller, silent and gone.
func TestVerifyOnACard(t *testing.T) {
	const gib = 1 << 30
	lib := standin.Build(t, standin.Options{Card: "gtx1080ti"})
	config := onThisMachine(t, lib.Path)
	code, idle := claims(t, config, lib.Path)
	if room := idle["device room"]; code != 0 || !room.Holds() || room.Absent || room.Seen < 10*gib {
		t.Errorf("idle: exit %d, %+v", code, room)
	}
	for _, what := range []string{"budget.device", "budget.host", "device weights", "device vision", "pools.general.max",
		"host room"} {
		if c, ok := idle[what]; !ok || !c.Holds() {
			t.Errorf("idle: %s: %+v", what, c)
		}
	}

	other := retain(t, lib.Path)
	p, err := other.Alloc(8 * gib)
	if err != nil {
		t.Fatal(err)
	}
	if code, full := claims(t, config, lib.Path); code != exitGate || full["device room"].Holds() ||
		full["device room"].Error() > -0.5 || !full["host room"].Holds() {
		t.Errorf("full: exit %d, %+v", code, full["device room"])
	}
	if err := other.Free(p); err != nil {
		t.Fatal(err)
	}
	if err := other.Release(); err != nil {
		t.Fatal(err)
	}

	smaller := standin.Build(t, standin.Options{Card: "mx350"})
	if code, c := claims(t, config, smaller.Path); code != exitGate || c["device room"].Holds() {
		t.Errorf("smaller: exit %d, %+v", code, c["device room"])
	}
	silent := standin.Build(t, standin.Options{Card: "gtx1080ti", Fail: []string{"cuMemGetInfo_v2:1:999:sticky"}})
	if code, c := claims(t, config, silent.Path); code != 0 || !c["device room"].Absent ||
		!strings.Contains(c["device room"].How, "could not be read") {
		t.Errorf("silent: exit %d, %+v", code, c["device room"])
	}
	if code, c := claims(t, config, "/nonexistent/libcuda.so.1"); code != exitGate || c["device"].Holds() ||
		c["device"].How != "no card answers" {
		t.Errorf("gone: exit %d, %+v", code, c["device"])
	}
}

// A budget of the card that does not add up is found.
func TestVerifyFindsAFalseBudgetOfTheCard(t *testing.T) {
	lib := standin.Build(t, standin.Options{Card: "gtx1080ti"})
	config := onThisMachine(t, lib.Path)
	text := read(t, config)
	at := strings.Index(text, "device:")
	at += strings.Index(text[at:], "free_bytes: ") + len("free_bytes: ")
	changed := text[:at] + "1" + text[at:]
	if code, c := claims(t, write(t, "false.yaml", changed), lib.Path); code != exitGate || c["budget.device"].Holds() ||
		!c["budget.host"].Holds() {
		t.Errorf("exit %d, %+v", code, c["budget.device"])
	}
}
