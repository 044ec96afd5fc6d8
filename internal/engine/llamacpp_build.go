package engine

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

// LlamaVersion is the llama.cpp whose rules are followed where none is named, and whose spellings the settings have.
const LlamaVersion = "v0.5.0"

// graphRules are what differs between builds in what a server reserves.
type graphRules struct {
	wholeBatch bool // logits are reserved for every token of a batch, not for one a slot
	textOnly   bool // no room for image embeddings in the graph of a batch of text
	wideMask   bool // masks are filled in f32 and copied to f16
	mixed      bool // tokens and embeddings may share a batch
	copies     bool // keys and values are copied into a run of cells, not scattered by their indices
	paddedMask bool // masks have rows for 64 tokens at least, in steps of 64
	plainCache bool // quantised caches hold heads as they are, not rotated
	headLast   bool // the head leaves the host after the last layer, not before the first
	pooled     bool // CUDA takes halves of a quantised cache from a pool, and fused kernels keep nothing alive
	oneCache   bool // sequences share one cache whatever is set
	oddBatch   bool // a batch need not be as long for every sequence
	oddUnified bool // it need not where sequences share one cache
	finePad    bool // without flash attention, cells come in steps of 32
	flashAsked bool // flash attention is off unless asked for
	oneBuffer  bool // a graph gets one buffer on a backend, however large
	looseRows  bool // whole blocks are asked of a cache's heads where flash attention is left to the engine alone

	fullWindow  bool // layers that see a window keep every token (until ggml-org/llama.cpp#13194, May 2025)
	batchWindow bool // beside its window such a layer keeps a batch, not what is computed at once
	hostFirst   bool // no layer leaves the host unless asked (until 15434, August 2025)
	oneSlot     bool // a server has one slot unless told (until 16736, November 2025)
	fixedCtx    bool // a context is 4,096 tokens unless told: none is fitted (until 16653, December 2025)
	noPrompts   bool // a server keeps no prompts on the host (until 16391, October 2025)
	checkpoints int  // that a server keeps of each slot's layers with a window, or with states

	unset timesTrained // what a context that is not set comes to
}

// timesTrained is how often a program of llama.cpp takes the trained length where no context is set (common/fit.cpp).
type timesTrained int

const (
	trainedOnce       timesTrained = iota // all slots share it
	trainedEachSlot                       // whether they share one cache or not
	trainedEachStream                     // once where slots share one cache
)

// slots is how many times a request's slots count.
func (t timesTrained) slots(o *Options) int {
	if t == trainedOnce || t == trainedEachStream && o.Unified {
		return 1
	}
	return max(o.Sequences, 1)
}

// asNow are the rules with what a build takes for settings and keeps beside its graph as it is today. A build that is
// not named is taken for one of the last year, whose graphs alone differ.
func (r graphRules) asNow() graphRules {
	r.oneCache, r.finePad, r.flashAsked, r.looseRows, r.headLast = false, false, false, false, false
	r.fullWindow, r.batchWindow, r.hostFirst, r.oneSlot, r.fixedCtx, r.noPrompts = false, false, false, false, false, false
	r.checkpoints = checkpointsOfSlot
	return r
}

// epoch is a run of builds with the same rules. Builds between two that were measured are not known: they may follow
// either.
type epoch struct {
	first, last int // builds that were measured, bNNNN
	rules       graphRules
}

// epochs were measured on the CPU with the server's own code (PyPI's xllamacpp since 0.1.14, whose last number is
// llama.cpp's build since April 2026) and with npm's node-llama-cpp 3.22.1, which is v0.5.0. What cards alone show is
// from the pull requests that changed it and from public logs: the head first (18148, December 2025), room for halves
// (23907, June 2026).
var epochs = []epoch{
	{5129, 5129, spring2025(graphRules{oddBatch: true, fullWindow: true})},
	{5456, 5456, spring2025(graphRules{oddBatch: true, batchWindow: true})},
	{5671, 5835, spring2025(graphRules{})},
	{6123, 6123, years2025(graphRules{oddUnified: true, paddedMask: true, headLast: true, finePad: true, flashAsked: true,
		oneBuffer: true, hostFirst: true, oneSlot: true, fixedCtx: true, noPrompts: true})},
	{6628, 6628, years2025(graphRules{oddUnified: true, paddedMask: true, headLast: true, finePad: true, oneSlot: true,
		fixedCtx: true, noPrompts: true, checkpoints: 3})},
	{7079, 7079, years2025(graphRules{oddUnified: true, paddedMask: true, headLast: true, fixedCtx: true,
		checkpoints: 8})},
	{7551, 7551, years2025(graphRules{checkpoints: 8})},
	{7827, 8156, graphRules{wholeBatch: true, wideMask: true, plainCache: true, pooled: true, looseRows: true,
		checkpoints: 8}},
	{8672, 9294, graphRules{wholeBatch: true, wideMask: true, pooled: true, looseRows: true,
		checkpoints: checkpointsOfSlot}},
	{9538, 9873, graphRules{checkpoints: checkpointsOfSlot}},
	{11063, 11063, graphRules{checkpoints: checkpointsOfSlot, unset: trainedEachSlot}},
	{11549, 11549, graphRules{mixed: true, checkpoints: checkpointsOfSlot, unset: trainedEachStream}},
}

// spring2025 adds what builds until July 2025 did.
func spring2025(r graphRules) graphRules {
	r.copies, r.paddedMask, r.headLast, r.oneCache, r.finePad, r.flashAsked = true, true, true, true, true, true
	r.oneBuffer, r.hostFirst, r.oneSlot, r.fixedCtx, r.noPrompts = true, true, true, true, true
	return years2025(r)
}

// years2025 adds what all builds of 2025 did.
func years2025(r graphRules) graphRules {
	r.wholeBatch, r.textOnly, r.wideMask, r.plainCache, r.pooled, r.looseRows = true, true, true, true, true, true
	return r
}

// releases are the builds of named versions.
var releases = map[string]int{LlamaVersion: 11063}

var (
	buildName   = regexp.MustCompile(`^b(\d{1,6})$`)
	releaseName = regexp.MustCompile(`^v\d+\.\d+\.\d+$`)
)

// buildRules are the rules that a build may follow, the likeliest first: one set where it lies within an epoch, two
// between epochs, before the first and after the last, and all of them where no build is named.
func buildRules(build string) ([]graphRules, error) {
	if build == "" {
		rules := []graphRules{epochOf(releases[LlamaVersion]).rules}
		for _, e := range epochs {
			if now := e.rules.asNow(); !slices.Contains(rules, now) {
				rules = append(rules, now)
			}
		}
		return rules, nil
	}
	n := buildNumber(build)
	known := n > 0
	latest := []graphRules{epochs[len(epochs)-1].rules, epochs[len(epochs)-2].rules}
	switch {
	case releaseName.MatchString(build) && !known: // a release of its own scheme
		return latest, nil
	case !known:
		return nil, fmt.Errorf("build %q: want bNNNN, as in b11549, or a release such as %s", build, LlamaVersion)
	case n < firstGGUF:
		return nil, fmt.Errorf("build %s: builds before b%d do not read GGUF", build, firstGGUF)
	}
	for i, e := range epochs {
		if n >= e.first && n <= e.last {
			return []graphRules{e.rules}, nil
		}
		if n < e.first {
			return slices.Compact([]graphRules{e.rules, epochs[max(i-1, 0)].rules}), nil
		}
	}
	return latest, nil
}

// firstGGUF is the build that reads GGUF first (ggml-org/llama.cpp#2398, August 2023).
const firstGGUF = 1046

// buildNumber is the number of a build or a known release, 0 for another name.
func buildNumber(build string) int {
	if m := buildName.FindStringSubmatch(build); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	return releases[build]
}

// epochOf is the epoch that a measured build lies in.
func epochOf(build int) epoch {
	i := slices.IndexFunc(epochs, func(e epoch) bool { return build >= e.first && build <= e.last })
	return epochs[i]
}

// rules are those that are followed: of the build that is named, or what it may be as well.
func (l *LlamaOptions) rules() graphRules {
	if l.under != nil {
		return *l.under
	}
	rules, err := buildRules(l.Build)
	if err != nil {
		return graphRules{} // check has said so
	}
	return rules[0]
}

// others are the rules that the build may follow as well: where a context is set, what it would be else matters not.
func (l *LlamaOptions) others(set bool) []graphRules {
	rules, err := buildRules(l.Build)
	if err != nil || l.under != nil {
		return nil
	}
	if !set {
		return rules[1:]
	}
	apart := rules[:1]
	for _, r := range rules[1:] {
		if r.unset = apart[0].unset; !slices.Contains(apart, r) {
			apart = append(apart, r)
		}
	}
	return apart[1:]
}

// unmeasured reports whether a build is older than every one that was measured.
func (l *LlamaOptions) unmeasured() bool {
	n := buildNumber(l.Build)
	return n > 0 && n < epochs[0].first
}

// neighbours says between which builds one lies that was not measured, and how to know better.
func (l *LlamaOptions) neighbours() string {
	n, last := buildNumber(l.Build), epochs[len(epochs)-1].last
	switch {
	case l.Build == "":
		return "another build may reserve otherwise: --build names yours"
	case n == 0 || n > last:
		return fmt.Sprintf("build %s is newer than b%d, the last that was measured: as that and %s", l.Build, last,
			LlamaVersion)
	}
	return "build " + l.Build + " was not measured: between its neighbours"
}
