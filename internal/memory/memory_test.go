package memory

import "testing"

func TestNamesReadBack(t *testing.T) {
	for _, k := range Kinds() {
		if got, err := ParseKind(k.String()); got != k || err != nil {
			t.Errorf("%v reads back as %v, %v", k, got, err)
		}
	}
	if k, err := ParseKind(""); k != General || err != nil {
		t.Errorf("no name is %v, %v", k, err)
	}
	if _, err := ParseKind("kv"); err == nil {
		t.Error("a kind that is none was read")
	}
	if got := Kind(99).String() + Place(9).String(); got != "999" {
		t.Errorf("what is none prints as %s", got)
	}
}
