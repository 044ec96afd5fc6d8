package advise

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Deployment is one engine on one machine: settings under which the engine's own estimate fits, at the high end of its
// interval, and that estimate.
type Deployment struct {
	Settings engine.Settings
	Options  engine.Options // that Memory was estimated with
	Memory   *engine.Memory
	Limits   Limits
	Verdict  string       // fits, or fits if and under which condition
	Savings  []Considered // what the engine offers to need less
	Headline []string     // what was decided and why, and where each byte goes
}

// memoryRoom is what an engine may fill. shared is set where card and host are one memory: both together may fill it.
type memoryRoom struct{ device, host, shared units.Bytes }

// attempt is one choice of settings on the way to a deployment.
type attempt struct {
	limits       Limits
	quant        string
	options      engine.Options // with the engine's own settings of this try
	hostLayers   int            // llama.cpp: layers left on the host, the head counting as one
	experts      int            // llama.cpp: layers whose experts are left on the host
	savings      []engine.Saving
	cards        int            // llama.cpp: that share the layers, 0 for one
	served       *engine.Served // nil: every card that can shares every layer
	split        bool           // weights that do not fit the card stay on the host
	device, host units.Bytes    // split: what each side may hold of them
}

// Deploy solves for what the user left open, in this order: the best weights that lie wholly on the card; the smallest,
// with as much on the card as fits; a shorter context; a smaller image. What is written fits at the high end of the
// engine's interval. Where nothing does, an engine that measures at its start and refuses, rather than be killed later,
// is tried at the middle, with a warning. The error is an *engine.Refusal where the engine cannot run on the card, and
// a *Shortfall where nothing fits.
func Deploy(name string, in Inputs) (Deployment, error) {
	e, err := engine.Lookup("target", name, deployable)
	if err != nil {
		return Deployment{}, err
	}
	in.reach(e)
	in.orderCards(e)
	in.spreads = true
	d, short, err := in.settleOn(e)
	if short != nil {
		short.WouldFit = in.wouldFit(e)
		return Deployment{}, short
	}
	return d, err
}

// ReachCard gives the engine that a configuration is reckoned for the card that it reaches.
func (in *Inputs) ReachCard() {
	if e, err := engine.Lookup("engine", in.Engine, deployable); err == nil {
		in.reach(e)
	}
}

// reach lets an engine that reaches cards which CUDA does not have all of them, where CUDA has none; one that runs
// on cards of CUDA alone refuses it with the reason.
func (in *Inputs) reach(e *engine.Engine) {
	if len(in.Hardware.GPUs) > 0 || e.Host || e.Weights != engine.GGUF && e.CPU {
		return
	}
	in.Hardware.GPUs = in.Hardware.EngineCards()
}

// settleOn is Deploy without what would fit instead.
func (in *Inputs) settleOn(e *engine.Engine) (Deployment, *Shortfall, error) {
	if e.Host {
		in.Hardware.GPUs = nil
	}
	if g := in.gpu(); g != nil {
		if err := e.Refuse(g); err != nil {
			return Deployment{}, nil, err
		}
	}
	if r := e.Unloadable(&in.Model); r != nil {
		return Deployment{}, nil, r
	}
	if r := in.served(e).Lacking(e, &in.Hardware); r != nil {
		return Deployment{}, nil, r
	}
	var likely *attempt
	var likelyMemory *engine.Memory
	var over units.Bytes
	short := Shortfall{Model: in.Model.Name, Hardware: in.Hardware.Name}
	for limits := range in.shrinking() {
		for a := range in.attempts(e, limits, in.quants(e)) {
			mem, err := in.estimate(e, a.options)
			if err != nil {
				return Deployment{}, nil, err
			}
			most, middle, where := in.overflow(e, mem, &a)
			if most == 0 {
				return in.deployment(e, a, mem, 0), nil, nil
			}
			if middle == 0 && likely == nil && e.Cache == engine.Fills {
				likely, likelyMemory, over = &a, mem, most
			}
			short.nearer(most, middle, where, a.quantOf(&in.Model, mem), limits)
		}
	}
	if likely != nil {
		return in.deployment(e, *likely, likelyMemory, over), nil, nil
	}
	return Deployment{}, &short, nil
}

// wouldFit is what would fit instead of what did not: another precision, more such cards, the processor alone, another
// engine.
func (in *Inputs) wouldFit(e *engine.Engine) (list []string) {
	fits := func(e *engine.Engine, change func(*Inputs)) (Deployment, bool) {
		try := *in
		change(&try)
		d, short, err := try.settleOn(e)
		return d, short == nil && err == nil
	}
	if in.Precision != "" {
		if d, ok := fits(e, func(try *Inputs) { try.Precision = "" }); ok {
			list = append(list, "--precision "+d.Memory.Quant)
		}
	}
	if in.gpu() == nil {
		return list
	}
	for cards := 2 * in.served(e).Cards(); e.Cards && cards <= 8; cards *= 2 {
		_, ok := fits(e, func(try *Inputs) { try.Hardware.GPUs = slices.Repeat(in.Hardware.GPUs[:1], cards) })
		if ok {
			list = append(list, fmt.Sprintf("%d such cards: name the card %d times in --hardware", cards, cards))
			break
		}
	}
	if _, ok := fits(e, func(try *Inputs) { try.Hardware.GPUs = nil }); ok && e.CPU {
		list = append(list, "the processor alone: --hardware without the card")
	}
	list = append(list, in.emptier(func(change func(*Inputs)) bool { _, ok := fits(e, change); return ok })...)
	if anywhere := engine.Anywhere(); e != anywhere {
		if d, ok := fits(anywhere, func(try *Inputs) { try.Precision = "" }); ok {
			list = append(list, fmt.Sprintf("--for %s, in %s", anywhere.Name, d.Memory.Quant))
		}
	}
	return list
}

// emptier is what would fit were a card not filled by others: another of the machine's, or the same without them.
func (in *Inputs) emptier(fits func(change func(*Inputs)) bool) (list []string) {
	if in.AssumeIdle {
		return nil
	}
	cards := in.Hardware.GPUs
	for i, g := range cards {
		if g.Room() > cards[0].Room() && fits(func(try *Inputs) { try.Hardware.GPUs = []profile.GPU{g} }) {
			return []string{fmt.Sprintf("card %d alone (%s)", i, alone(i, &g))}
		}
	}
	if slices.ContainsFunc(cards, func(g profile.GPU) bool { return g.Room() < g.MemoryBytes }) &&
		fits(func(try *Inputs) { try.AssumeIdle = true }) {
		list = append(list, "what fills the card ended (--assume-idle reckons so)")
	}
	return list
}

// alone is how an engine is told to use one card only, the i-th of the machine's.
func alone(i int, g *profile.GPU) string {
	switch g.Backend {
	case "":
		return fmt.Sprintf("CUDA_VISIBLE_DEVICES=%d", i)
	case "rocm":
		return fmt.Sprintf("HIP_VISIBLE_DEVICES=%d", g.Number)
	}
	return "--device " + engine.DeviceName(g)
}

// quants is the weights to try, by falling quality. Engines over PyTorch load the checkpoint as it is; a quantised one
// would be another repository.
func (in *Inputs) quants(e *engine.Engine) []string {
	name := strings.ToLower(in.Precision)
	switch {
	case name == "" && e.Weights == engine.Checkpoint && in.Model.Quantisation != nil:
		return []string{""}
	case name == "":
		return e.Ladder
	case name == "fp16" && e.Weights == engine.GGUF:
		name = "f16"
	case name == "fp16" && e.Weights == engine.Checkpoint:
		name = "float16"
	}
	return []string{name}
}

// deployable reports whether an engine has both an estimate to solve with and files to write.
func deployable(e *engine.Engine) bool { return e.Writes() && e.Estimates() }

// leastContext leaves an answer room beside the image.
const leastContext = 512

// shrinking is the limits, then those with half the context until an image and 512 tokens barely fit, then those with
// half the image's sides. What the user gave is kept.
func (in *Inputs) shrinking() iter.Seq[Limits] {
	return func(yield func(Limits) bool) {
		l := in.Limits
		for {
			if !yield(l) {
				return
			}
			grid, err := in.Model.ImageGrid(l.ImageWidth, l.ImageHeight)
			switch {
			case err != nil:
				return
			case !slices.Contains(in.Given, "context") && l.ContextTokens/2 >= grid.Tokens+leastContext:
				l.ContextTokens /= 2
			case !slices.Contains(in.Given, "image") && min(l.ImageWidth, l.ImageHeight) >= 128:
				l.ImageWidth, l.ImageHeight = l.ImageWidth/2, l.ImageHeight/2
			default:
				return
			}
		}
	}
}

// options is an attempt as the engine's own procedure takes it.
func (in *Inputs) options(e *engine.Engine, a attempt) engine.Options {
	o := engine.Options{
		Quant: a.quant, Context: a.limits.ContextTokens, Sequences: a.limits.Concurrency, HostLayers: a.hostLayers,
		Image: &engine.Image{Width: a.limits.ImageWidth, Height: a.limits.ImageHeight}, Device: "cpu", GPU: in.gpu(),
		NoWarmup: e.Cold, Served: in.served(e),
		Llama: engine.LlamaOptions{Build: cmp.Or(in.Build, engine.LlamaVersion), CPU: in.Hardware.CPU,
			CacheRAM: new(int)}, // as the files say
	}
	if a.served != nil {
		o.Served = *a.served
	}
	o.Join(e, &in.Hardware, in.AssumeIdle)
	o.Utilization = in.share(e, o.Served)
	o.Sequences = o.DataShare(o.Sequences)
	if e.Pooled {
		o.Context *= o.Sequences
		if in.gpu() == nil {
			o.Llama.LoadMode = "none" // mapped, the file's pages would lie beside copies of them
		}
	}
	if o.GPU != nil {
		o.Device = "gpu"
	}
	o.Llama.Cards, o.Llama.Overrides = a.cards, in.expertsOnHost(a.experts)
	for _, saving := range a.savings {
		e.Spare(saving, &in.Model, &o)
	}
	if a.cards > 1 {
		o.GPUs = in.Hardware.GPUs[:a.cards]
		o.Llama.Shares = in.shareOut(e, o)
	}
	return o
}

// served is how a server lays the model out over the machine's alike cards.
func (in *Inputs) served(e *engine.Engine) engine.Served {
	return in.Served.Over(e, &in.Hardware, &in.Model)
}

// unifiedProcessBytes is what is left to an engine's processes where it fills a share of a memory that is the host's
// too.
const unifiedProcessBytes = 4 * units.GiB

// share is the engine's own share of the card, or what other programs leave of it: more than is free makes it refuse to
// start.
func (in *Inputs) share(e *engine.Engine, served engine.Served) float64 {
	if e.Share > 0 && in.unified() { // what the engine's own processes take of the host is not the card's then
		free := max(0, in.room().device-unifiedProcessBytes)
		return shareOf(e, free, in.gpu())
	}
	share := e.Share
	for i := range in.Hardware.GPUs[:min(served.Cards(), len(in.Hardware.GPUs))] {
		if g := &in.Hardware.GPUs[i]; e.Share > 0 && !in.AssumeIdle {
			share = min(share, max(leastShare, engine.StartingShare(g)))
		}
	}
	return share
}

// leastShare is what an engine is given where nothing is left: zero would ask for its own.
const leastShare = 0.01

// shareOf is an engine's share where only free of a card is left, in hundredths.
func shareOf(e *engine.Engine, free units.Bytes, g *profile.GPU) float64 {
	return min(e.Share, max(leastShare, math.Floor(100*float64(free)/float64(g.MemoryBytes))/100))
}

// cardRoom is what a card has free, all of it where that is unknown or the card is taken to be idle.
func (in *Inputs) cardRoom(g *profile.GPU) units.Bytes {
	if in.AssumeIdle {
		return g.MemoryBytes
	}
	return g.Room()
}

// room is the free memory where it was measured, else all of it less what system and process take.
func (in *Inputs) room() memoryRoom {
	host := in.hostMemory()
	r := memoryRoom{host: max(0, host.Capacity.Value-host.Other.Value)}
	switch g := in.gpu(); {
	case in.unified():
		r.device, r.shared = min(r.host, in.cardRoom(g)), r.host
	case g != nil:
		r.device = in.cardRoom(g)
	}
	return r
}

// overflow is by how much an estimate is too large at the high end of its interval and at its middle, 0 where it fits,
// and where. Of a split it settles what each side holds.
func (in *Inputs) overflow(e *engine.Engine, mem *engine.Memory, a *attempt) (most, middle units.Bytes, where string) {
	if e.Cache == engine.Fills && in.gpu() != nil {
		need := mem.TokenBytes * units.Bytes(a.limits.ContextTokens*a.options.DataShare(a.limits.Concurrency))
		return max(0, need-mem.Left.Low, mem.Withheld.Most), max(0, need-mem.Left.At, mem.Withheld.At), "on the card"
	}
	room := in.room()
	mem, room.device = in.tightest(mem, room.device)
	var device, host, weights, deviceAt, hostAt units.Bytes
	for _, i := range mem.Items {
		if i.Name == engine.FilePages {
			continue // nobody reads them again, so that they give way
		}
		if i.Where == "host" {
			host, hostAt = host+i.High, hostAt+i.Bytes
			continue
		}
		device, deviceAt = device+i.High, deviceAt+i.Bytes
		if i.Name == engine.Weights || i.Name == engine.VisionWeights {
			weights += i.High
		}
	}
	if over := device + host - room.shared; room.shared > 0 && over > 0 {
		return over, max(0, deviceAt+hostAt-room.shared), "in the memory that card and host share"
	}
	if a.split {
		var missing units.Bytes
		a.device, a.host, missing = e.Split(&in.Model, a.options, room.device-(device-weights))
		if missing > 0 {
			return missing, max(0, missing-(device-deviceAt)), "on the card"
		}
		host += a.host
		return max(0, host-room.host), max(0, hostAt+a.host-room.host), "in host memory"
	}
	if in.gpu() == nil {
		return max(0, host-room.host), max(0, hostAt-room.host), "in host memory"
	}
	onCard, onHost := max(0, device-room.device), max(0, host-room.host)
	switch {
	case onCard > 0 && onHost > 0:
		where = "on the card and in host memory together"
	case onHost > 0:
		where = "in host memory"
	default:
		where = "on the card"
	}
	return onCard + onHost, max(0, deviceAt-room.device) + max(0, hostAt-room.host), where
}

// quantOf is the precision that was tried; of a checkpoint as it is, what it was quantised in.
func (a *attempt) quantOf(m *profile.Model, mem *engine.Memory) string {
	if a.quant == "" && m.Quantisation != nil {
		return mem.Quant
	}
	return a.quant
}

// deployment writes down what was found; most is what the estimate is over at its most.
func (in *Inputs) deployment(e *engine.Engine, a attempt, mem *engine.Memory, most units.Bytes) Deployment {
	l := a.limits
	d := Deployment{Memory: mem, Limits: l, Verdict: in.verdict(mem, &a, most), Options: a.options,
		Savings: in.considered(e, a),
		Settings: engine.Settings{
			Model: &in.Model, GPU: in.gpu(), Served: a.options.Served, Context: l.ContextTokens,
			Sequences: a.options.Sequences,
			Image:     engine.Image{Width: l.ImageWidth, Height: l.ImageHeight}, Batch: max(a.options.Batch, a.options.UBatch),
			Share: a.options.Utilization, Eager: a.options.Eager, Device: a.device, Host: a.host,
		}}
	s := &d.Settings
	if e.Weights == engine.GGUF {
		tower := cmp.Or(a.options.ProjectorQuant, "f16")
		s.Path = fmt.Sprintf("%s-%s.gguf", in.Model.Name, strings.ToUpper(a.quant))
		s.Projector = fmt.Sprintf("mmproj-%s-%s.gguf", in.Model.Name, strings.ToUpper(tower))
		if p, ok := engine.PublishedGGUF(&in.Model, a.quant, tower); ok {
			s.Path, s.Projector = p.Decoder, p.Tower
		}
		s.KVType, s.TowerOnHost, s.ExpertLayers = a.options.KVType, a.options.Llama.NoTower, a.experts
		s.FullOff = in.gpu() != nil && a.hostLayers == 0
		s.GPULayers = in.Model.Text.Blocks() + 1 - a.hostLayers
		s.LoadMode, s.Build = a.options.Llama.LoadMode, in.Build
		in.placesOnCards(s, &a)
	} else {
		s.Quant = a.quant
	}
	s.Threads, s.ThreadsWhy = in.Threads(a.hostLayers > 0)
	if a.split { // it was counted whole
		whole := func(w evidence.Warning) bool { return w.Code == engine.TooLarge }
		split := *mem
		split.Warnings = slices.DeleteFunc(slices.Clone(mem.Warnings), whole)
		d.Memory, mem = &split, &split
	}
	if unseen := in.unseen(); len(unseen) > 0 { // estimates are shared by machines
		own := *mem
		own.Warnings, d.Memory = slices.Concat(mem.Warnings, unseen), &own
	}
	d.Headline = slices.Insert(in.engineHeadline(e, a, mem), 1, d.Verdict)
	return d
}

// Threads is how many threads an engine's files set, and why: 0 where everything lies on the card, for which an
// engine's own choice does, unless it would count CPUs that it may not use.
func (in *Inputs) Threads(hostComputes bool) (threads int, why string) {
	cpu := in.Hardware.CPU
	if cpu == nil {
		return 0, ""
	}
	if n, why := in.Hardware.Compute(); in.gpu() == nil || hostComputes || n < cpu.Cores {
		return n, why
	}
	return 0, ""
}

// engineHeadline says what was decided and where each byte goes.
func (in *Inputs) engineHeadline(e *engine.Engine, a attempt, mem *engine.Memory) []string {
	room, where := in.room(), "in host memory"
	used, high, capacity := mem.HostBytes, units.Bytes(0), room.host
	all := mem.Items
	if in.gpu() != nil {
		used, capacity, where = mem.DeviceBytes, room.device, "on the card"
	}
	if a.cards > 1 {
		mem, capacity = in.tightest(mem, room.device)
		where, used = fmt.Sprintf("on the fullest of %d cards", a.cards), 0
		for _, i := range mem.Items {
			if i.Where != "host" {
				used += i.Bytes
			}
		}
	}
	for _, i := range mem.Items {
		switch {
		case (i.Where == "host") != (in.gpu() == nil):
		case i.Name == engine.FilePages:
			used -= i.Bytes
		default:
			high += i.High
		}
	}
	if e.Cache == engine.Fills {
		high = used
	}
	used, high = used-a.host, high-a.host
	list := []string{fmt.Sprintf("%s (%s) on %s: %s of %s %s, at most %s; %s tokens, images up to %s, %d at once",
		in.Model.Name, mem.Quant,
		in.Hardware.Name, used, capacity, where, high, units.Grouped(int64(a.limits.ContextTokens)), a.limits.Image(),
		a.limits.Concurrency)}
	if a.limits != in.Limits {
		list = append(list, fmt.Sprintf("%s tokens and images up to %s did not fit",
			units.Grouped(int64(in.Limits.ContextTokens)), in.Limits.Image()))
	}
	list = append(list, savingLines(in.considered(e, a))...)
	if a.hostLayers > 0 {
		list = append(list, fmt.Sprintf("%d of %d layers, the head counting as one, stay in host memory", a.hostLayers,
			in.Model.Text.Blocks()+1))
	}
	if a.split {
		list = append(list, fmt.Sprintf("%s of the weights stay in host memory and pass through the card", a.host))
	}
	if mem.Cards > 1 {
		list = append(list, fmt.Sprintf("on each of %d cards", mem.Cards))
	}
	for _, i := range all {
		text := fmt.Sprintf("%s, %s: %s", i.Where, i.Name, i.Bytes)
		if i.Low != i.High {
			text += fmt.Sprintf(" (%s to %s)", i.Low, i.High)
		}
		list = append(list, text+" ["+i.Source+"]")
	}
	return list
}

const (
	contextStep = 256 // tokens; llama.cpp pads a context to it
	imageStep   = 8   // sides grow by eighths of what they were
)

// Grow is the limits with one of them, context, image or concurrency, as large as fits says, up to what the model
// takes.
func Grow(what string, from Limits, m *profile.Model, fits func(Limits) bool) (Limits, error) {
	at, most := 0, 0
	set := func(n int) Limits {
		l := from
		switch what {
		case "context":
			l.ContextTokens = n * contextStep
		case "concurrency":
			l.Concurrency = n
		case "image":
			l.ImageWidth, l.ImageHeight = from.ImageWidth*n/imageStep, from.ImageHeight*n/imageStep
		}
		return l
	}
	switch what {
	case "context":
		at, most = from.ContextTokens/contextStep, m.Text.MaxPositions/contextStep
	case "concurrency":
		at, most = from.Concurrency, 256
	case "image":
		times := math.Sqrt(float64(m.Preprocess.MaxPixels) / float64(from.ImageWidth*from.ImageHeight))
		at, most = imageStep, imageStep*int(times)
	default:
		return from, fmt.Errorf("growing %s: want context, image or concurrency", what)
	}
	start := at
	for over := most + 1; at+1 < over; {
		if middle := at + (over-at)/2; holdsImage(m, set(middle)) && fits(set(middle)) {
			at = middle
		} else {
			over = middle
		}
	}
	if at == start {
		return from, nil
	}
	return set(at), nil
}

// holdsImage reports whether the context has room for the image and an answer.
func holdsImage(m *profile.Model, l Limits) bool {
	grid, err := m.ImageGrid(l.ImageWidth, l.ImageHeight)
	return err == nil && grid.Tokens+leastContext <= l.ContextTokens
}

// Settle changes the limits that the user left open until the model fits: shorter contexts, then smaller images. With
// grow, that limit then becomes as large as precision and layers on the card allow. Where nothing fits the limits stay.
func (in *Inputs) Settle(grow string) error {
	asked := in.Limits
	for limits := range in.shrinking() {
		try := *in
		try.Limits = limits
		if try.Fits() {
			in.Limits = limits
			break
		}
	}
	if grow != "" {
		fixed := *in
		first, ok := fixed.placeAlone()
		if !ok {
			return nil
		}
		in.held = first.Precision.Value
		fixed.Precision = in.held
		limits, err := Grow(grow, in.Limits, &in.Model, func(l Limits) bool {
			fixed.Limits = l
			b, ok := fixed.placeAlone()
			return ok && b.LayersOnDevice.Value == first.LayersOnDevice.Value
		})
		if err != nil {
			return err
		}
		in.Limits = limits
	}
	if in.Limits != asked {
		in.asked = &asked
	}
	return nil
}
