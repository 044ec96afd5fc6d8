package optimizer

import (
	"errors"
	"fmt"
	"io"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/pressure"
)

// Option changes what Open makes of a configuration.
type Option func(*settings)

type settings struct {
	driver  string
	onHost  bool
	collect func()
}

// OnHost keeps everything in host memory, also what the configuration places on a card. Streams are then worker
// threads.
func OnHost() Option { return func(s *settings) { s.onHost = true } }

// Driver names the CUDA driver library to load instead of the system's.
func Driver(path string) Option { return func(s *settings) { s.driver = path } }

// Collect replaces what is run under high pressure: the Go collector, which returns its idle heap.
func Collect(f func()) Option { return func(s *settings) { s.collect = f } }

// Open reads a configuration that `vlmem advise` wrote, strictly, and makes its pools. Where the configuration uses a
// card this machine must have one, or OnHost be given.
func Open(r io.Reader, opts ...Option) (*Optimizer, error) {
	var s settings
	for _, o := range opts {
		o(&s)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading a configuration: %w", err)
	}
	a, err := advise.Decode(nameOf(r), data)
	if err != nil {
		return nil, err
	}
	o, err := s.configured(a)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", nameOf(r), err)
	}
	m, err := open(o)
	if err != nil {
		if o.release != nil {
			err = errors.Join(err, o.release())
		}
		return nil, fmt.Errorf("opening %s: %w", nameOf(r), err)
	}
	for _, w := range a.Warnings {
		m.warnings = append(m.warnings, w.Text)
	}
	return m, nil
}

// Warnings are what reading the configuration left to say, such as that a later vlmem wrote it and keys were passed
// over.
func (o *Optimizer) Warnings() []string { return o.warnings }

// nameOf is a file's name, for errors.
func nameOf(r io.Reader) string {
	if f, ok := r.(interface{ Name() string }); ok {
		return f.Name()
	}
	return "configuration"
}

// configured turns a configuration into options.
func (s *settings) configured(a advise.Advice) (options, error) {
	o := options{pools: map[Kind]alloc.Config{}, pages: map[Kind]int64{}, prefer: map[Kind][]Place{},
		limits:   map[poolKey]int64{},
		pressure: pressure.Default(), above: a.Pressure.DefragmentAbove.Value, collect: s.collect}
	o.pressure.Low, o.pressure.High = a.Pressure.Low.Value, a.Pressure.High.Value
	o.pressure.Hysteresis = a.Pressure.Hysteresis.Value
	if o.above <= 0 || o.above >= 1 {
		return o, fmt.Errorf("pressure.defragment_above %g: want above 0 and below 1", o.above)
	}
	for kind, p := range a.Pools.ByKind() {
		if err := o.addPool(kind, p); err != nil {
			return o, fmt.Errorf("pools.%v.%w", kind, err)
		}
	}
	card := a.Budget.Device != nil && !s.onHost
	for kind := range o.pools {
		o.prefer[kind] = placesFor(kind, card)
	}
	if card && a.Placement != nil {
		o.follow(a.Placement)
	}
	o.streams = a.Streams.Compute.Value + a.Streams.Copy.Value
	if !card {
		return o, nil
	}
	if err := o.useCard(s.driver, 0); err != nil {
		return o, fmt.Errorf("the configuration uses a card: %w", err)
	}
	return o, nil
}

// addPool reads one pool's settings. A pool without a maximum is left out: its kind is served from the general one.
func (o *options) addPool(kind Kind, p advise.Pool) error {
	policy, align := p.Policy.Value, int64(p.Alignment.Value)
	c := alloc.Config{Policy: policy, Initial: int64(p.Initial.Value), Max: int64(p.Max.Value), Grow: int64(p.Grow.Value),
		Align: align & -align}
	switch {
	case c.Max == 0:
		return nil
	case align <= 0:
		return fmt.Errorf("alignment_bytes %d: want above zero", align)
	case c.Initial < 0 || c.Max < c.Initial || c.Grow < 0:
		return fmt.Errorf("max_bytes %d: initial %d and grow %d do not go with it", c.Max, c.Initial, c.Grow)
	}
	switch policy {
	case "fixed":
		c.Policy, o.pages[kind] = "bestfit", align
	case "vlmem", "bestfit", "buddy":
	default:
		return fmt.Errorf("policy %q: want vlmem, bestfit, buddy or fixed", policy)
	}
	o.pools[kind] = c
	return nil
}

// placesFor is where a kind lies, the best first.
func placesFor(kind Kind, card bool) []Place {
	switch {
	case !card:
		return []Place{Pageable}
	case kind == Staging:
		return []Place{Pinned, Pageable}
	}
	return []Place{Device, Pageable}
}

// follow puts cache and vision features where the configuration places them: each place of the cache has its share of
// the pool, and what the tower reads and writes lies beside its weights.
func (o *options) follow(p *advise.Places) {
	for _, q := range []struct {
		kind Kind
		*advise.Piece
	}{{KVCache, &p.KVCache}, {VisionFeatures, &p.Tower}} {
		c, ok := o.pools[q.kind]
		parts, whole := q.By(), int64(0)
		for _, n := range parts {
			whole += int64(n)
		}
		if !ok || whole == 0 {
			continue
		}
		var list []Place
		left := c.Max
		for _, place := range []Place{Device, Pinned, Managed, Pageable} {
			n := int64(parts[place])
			if n == 0 {
				continue
			}
			list = append(list, place)
			if share := int64(float64(c.Max) * float64(n) / float64(whole)); q.kind == KVCache && n < whole {
				share = min(left, (share+boundary-1)/boundary*boundary)
				o.limits[poolKey{place, q.kind}] = share
				left -= share
			}
		}
		if len(list) == 1 && list[0] != Pageable {
			list = append(list, Pageable) // where the card has no room left
		}
		o.prefer[q.kind] = list
	}
}

// boundary is what a place's share of a pool is a multiple of: the granule that a card commits.
const boundary = 2 << 20

// useCard opens a card and the memories that it brings.
func (o *options) useCard(library string, ordinal int) error {
	driver, err := cuda.Open(library)
	if err != nil {
		return fmt.Errorf("opening card %d: %w", ordinal, err)
	}
	card, err := driver.Retain(ordinal)
	if err != nil {
		driver.Close()
		return fmt.Errorf("opening card %d: %w", ordinal, err)
	}
	o.card = card
	o.release = func() error {
		err := card.Release()
		driver.Close()
		return err
	}
	o.open = map[Place]alloc.Opener{
		Device:  func(n int64) (space.Space, error) { return space.NewDevice(card, n) },
		Pinned:  func(n int64) (space.Space, error) { return space.NewPinned(card, n) },
		Managed: func(n int64) (space.Space, error) { return space.NewManaged(card, n) },
	}
	return nil
}
