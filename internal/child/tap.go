package child

import "sync"

// Tap keeps the beginning of what a program writes: engines say what they allocate while they load. Its two outputs
// are copied at once.
type Tap struct {
	mu   sync.Mutex
	text []byte
}

// mostLog is far above what engines write while they load.
const mostLog = 16 << 20

func (t *Tap) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b[:min(len(b), mostLog-len(t.text))]...)
	return len(b), nil
}

// Text is what was kept.
func (t *Tap) Text() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text
}
