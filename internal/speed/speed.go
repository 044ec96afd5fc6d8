// Package speed predicts how fast a model answers on a machine: tokens per second while it writes, the time to read a
// prompt and an image, and the time to the first token, each as a median with an interval that holds four times in
// five.
//
// A step is a sum of things done one after another, each an amount over a rate:
//
//	seconds = Σ_i amount_i / rate_i · exp(Σ_k c_ik · θ_k)
//
// The amounts are facts of the model and of where it lies (bytes of weights, bytes of cache at this depth, operations,
// layers); the rates are facts of the machine (data sheet or measured). What separates the two, the share of a rate
// that an engine's kernels reach, is the product of named effects: e^θ for the architecture, the backend, the engine
// and the type of the weights, and powers of what varies without steps. The terms of one step:
//
//	decode   weights/bandwidth + cache·depth/bandwidth + layers·overhead             for the card
//	         + weights/bandwidth + operations/arithmetic + cache·depth/bandwidth     for the host
//	prefill  operations/arithmetic + scores/arithmetic + (weights/bandwidth + layers·overhead)/batch
//	         + experts copied/bus/batch                                              a token of the prompt
//
// The effects are fitted by tools/speed to public measurements and kept in constants.json, with the sources. The
// logarithm of a sum of exponentials is convex in θ, so the fit has one answer.
//
// Intervals are conformal: for each class of machine, the tenth and ninetieth percentile of measured over predicted, on
// rows whose source had no part in the fit. They are of the prediction, not of the run: clocks, drivers, settings that
// nobody wrote down. An observation of the same machine moves the median and narrows the interval; see Calibrate.
package speed

import "math"

// Card is what of a graphics card decides speed. Rates are data sheet peaks, of all cards a layer split visits, one.
type Card struct {
	Arch              string  // pascal, turing, ampere, ada, blackwell, hopper, apple, rdna2, …
	BandwidthBytesPS  float64 // of device memory
	FlopsPS           float64 // 32-bit, at boost; 0: unknown, taken from the bandwidth
	MemoryBytes       float64 // 0: unknown
	Count             int     // cards that share the layers
	Laptop            bool
	HostCopyBytesPerS float64 // measured, host to device; 0: unknown
}

// Host is what of the processors and their memory decides speed.
type Host struct {
	Class            string  // laptop, desktop, server, arm
	ISA              string  // sse, avx, avx2, avx512, neon
	BandwidthBytesPS float64 // data sheet of the platform, or measured
	ReadBytesPerS    float64 // read by probe on this machine, all threads; 0 where it was not
	Cores            float64 // that compute; an efficiency core counts one half
	GHz              float64 // held by all cores
}

// Work is what one request asks of a model, and where the model lies. Bytes are of the file's types.
type Work struct {
	CardBytes, HostBytes             float64 // dense weights that each token reads, by place
	CardExpertBytes, HostExpertBytes float64 // experts that each token reads, by place
	HostExpertsAll                   float64 // bytes of all experts on the host: a micro-batch copies them
	CardExpertsAll                   float64
	CardOps, HostOps                 float64 // operations a token, 2 a parameter
	KVBytes                          float64 // keys and values of one token
	ScoreOps                         float64 // operations a token of the prompt a token before it
	CardLayers, HostLayers           float64
	Depth                            float64 // tokens in the cache while decoding
	Prompt                           float64 // tokens read at once
	UBatch                           float64 // tokens a micro-batch
	Concurrency                      float64 // requests decoded together
	Experts                          bool    // the model has experts
}

// Setting is with what a model runs.
type Setting struct {
	Engine         string // llama.cpp, llamafile, ollama, vllm, …
	Backend        string // cuda, vulkan, rocm, metal, cpu; "" the card's own
	Type           string // group of weight types; see TypeOf
	NoFlash        bool   // flash attention known to be off
	Old            bool   // built before September 2024
	QuantisedCache bool
}

// Query is one question. Card or Host may be absent, never both.
type Query struct {
	Card    *Card
	Host    *Host
	Work    Work
	Setting Setting
}

// Range is a median with an interval that holds four times in five. Zero Median: not answered.
type Range struct {
	Median float64 `yaml:"median" json:"median"`
	Low    float64 `yaml:"low" json:"low"`
	High   float64 `yaml:"high" json:"high"`
}

// Scale returns the range of k times the value.
func (r Range) Scale(k float64) Range { return Range{r.Median * k, r.Low * k, r.High * k} }

// Invert returns the range of one over the value: seconds from rates.
func (r Range) Invert() Range {
	if r.Median <= 0 {
		return Range{}
	}
	return Range{1 / r.Median, 1 / r.High, 1 / r.Low}
}

// Effect is a named correction with its coefficient.
type Effect struct {
	Name string
	By   float64
}

// Term is one summand of a step: seconds at the full rate, and the effects on it.
type Term struct {
	Seconds float64
	Effects []Effect
}

// LogSeconds sums the terms under effects θ (absent: 0) and returns the logarithm, with each term's share of the sum.
func LogSeconds(terms []Term, theta func(string) float64) (float64, []float64) {
	share := make([]float64, len(terms))
	var sum float64
	for i, t := range terms {
		e := 0.0
		for _, f := range t.Effects {
			e += f.By * theta(f.Name)
		}
		share[i] = t.Seconds * math.Exp(e)
		sum += share[i]
	}
	for i := range share {
		share[i] /= sum
	}
	return math.Log(sum), share
}
