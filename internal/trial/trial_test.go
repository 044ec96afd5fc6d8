package trial

import (
	"os"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/optimizer"
)

// served runs a program of the text pool through a configuration whose maximum for it is 88,080,384 bytes.
func served(t *testing.T, p *replay.Program) []advise.Claim {
	t.Helper()
	data, err := os.ReadFile("../../cmd/vlmem/testdata/advise_i5-10210u_qwen3-vl-4b.yaml")
	if err != nil {
		t.Fatal(err)
	}
	a, err := advise.Decode("config", data)
	if err != nil {
		t.Fatal(err)
	}
	o, err := optimizer.Open(strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	claims, err := Serve(o, a, advise.Demand{"text_embeddings": p})
	if err != nil || len(claims) != 2 {
		t.Fatalf("%d claims, %v", len(claims), err)
	}
	return claims
}

func TestServedRequestHolds(t *testing.T) {
	p := &replay.Program{Slots: 3, Steps: []replay.Step{{Slot: 0, Size: 20 << 20}, {Slot: 1, Size: 9000}, {Slot: 0},
		{Slot: 2, Size: 30 << 20}, {Slot: 1}}}
	claims := served(t, p)
	if !claims[0].Holds() || !claims[1].Holds() || claims[1].Seen != 5120+3+7680 {
		t.Errorf("%+v", claims)
	}
}

func TestServedRequestTooLarge(t *testing.T) {
	claims := served(t, &replay.Program{Slots: 2, Steps: []replay.Step{{Slot: 0, Size: 60 << 20},
		{Slot: 1, Size: 60 << 20}}})
	if claims[0].Holds() || !strings.Contains(claims[0].How, "tensor 2 of the request did not fit") || !claims[1].Holds() {
		t.Errorf("%+v", claims)
	}
}
