package profiles

import "testing"

func TestEveryMixIsValidAndSourced(t *testing.T) {
	for _, name := range MixNames() {
		m, err := Mix(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if m.Name != name || m.Source["default"] == "" {
			t.Errorf("%s.yaml names itself %q, source %q", name, m.Name, m.Source["default"])
		}
	}
}
