package engine

import (
	"bytes"
	"regexp"
	"strconv"
)

// Answered is what a program's log says of the requests that it answered, summed over them.
type Answered struct {
	Prompts                int // of text alone: an image's encoding is in the time of its prompt
	PromptTokens, PromptMS float64
	Replies                int
	ReplyTokens, ReplyMS   float64
}

// What llama.cpp prints of a request: its server of each, its other programs of all at their end; and what its server
// prints before the line of a prompt with images.
var (
	llamaTiming  = regexp.MustCompile(`(prompt )?eval time =\s*([0-9.]+) ms /\s*(\d+) (?:tokens|runs)`)
	llamaEncodes = regexp.MustCompile(`encoding mtmd batch|image decoded|encoding image`)
)

// mostSaid is the most tokens or milliseconds of a request that are believed, thirty years: the sum over a log of them
// is a whole number still.
const mostSaid = 1e12

// ReadLlamaRates reads how fast a llama.cpp program says that it was.
func ReadLlamaRates(log []byte) (a Answered) {
	image := false
	for line := range bytes.Lines(log) {
		image = image || llamaEncodes.Match(line)
		m := llamaTiming.FindSubmatch(line)
		if m == nil {
			continue
		}
		ms, _ := strconv.ParseFloat(string(m[2]), 64) // by the pattern a number, of 1.2.3 none
		tokens, _ := strconv.ParseFloat(string(m[3]), 64)
		switch {
		case ms <= 0 || tokens <= 0 || ms > mostSaid || tokens > mostSaid:
		case len(m[1]) == 0:
			a.Replies, a.ReplyTokens, a.ReplyMS = a.Replies+1, a.ReplyTokens+tokens, a.ReplyMS+ms
		case !image:
			a.Prompts, a.PromptTokens, a.PromptMS = a.Prompts+1, a.PromptTokens+tokens, a.PromptMS+ms
		}
		image = image && len(m[1]) > 0
	}
	return a
}

// Ran is how fast a run was that taught an estimate.
type Ran struct {
	Quant                 string
	Machine, CPU          string // where it ran
	Card                  string
	CardBytes, HostBytes  float64 // of weights, by place
	Prompt, Reply         float64 // tokens of a request, in the mean
	PromptPerS, ReplyPerS float64 // tokens per second; 0: not said
}
