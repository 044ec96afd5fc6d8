package main

import (
	"math"

	"github.com/vlmem/vlmem/internal/speed"
)

// The rules by which tools that people use predict decode, in our words: what their sources did in autumn 2026. Neither
// predicts a prompt. A rule that says nothing of a row returns zero.

// nominalBytes are llmfit's bytes a parameter.
var nominalBytes = map[string]float64{"q2-3_k": 0.45, "iq1-3": 0.4, "iq4": 0.55, "q4_0": 0.58, "q4_k": 0.58, "q5": 0.68,
	"q6_k": 0.8, "q8_0": 1.05, "f16": 2, "fp4": 0.55, "int4": 0.55, "int8": 1, "other": 0.58}

// llmfit divides bandwidth by all bytes and takes 55 % of it; models with experts read the active ones over the full
// bandwidth; of processors it knows the number of parameters only.
func llmfit(r row) float64 {
	q := r.query
	if q == nil {
		return 0
	}
	w := q.Work
	params := (w.CardOps + w.HostOps) / 2 / 1e9
	if q.Card == nil {
		per := 70.0
		if q.Host.Class == "arm" {
			per = 90
		}
		return per / params * 1.1 * 0.3
	}
	bytes := nominalBytes[q.Setting.Type]
	bandwidth := q.Card.BandwidthBytesPS / 1e9
	switch {
	case w.HostExpertsAll > 0 && w.HostLayers == 0:
		seconds := w.HostExpertBytes/q.Host.BandwidthBytesPS + (w.CardBytes+w.CardExpertBytes)/q.Card.BandwidthBytesPS/0.55
		return 0.8 / seconds
	case w.Experts:
		experts := w.CardExpertBytes + w.HostExpertBytes
		dense := (params - experts*params*1e9/(experts+w.CardBytes+w.HostBytes)/1e9) * 3.2
		return bandwidth / (experts/1e9 + dense)
	}
	rate := bandwidth / (params * bytes) * 0.55
	if w.HostBytes > 0 {
		rate *= 0.5
	}
	return rate
}

// whichllm divides bandwidth by the file's bytes and multiplies by an efficiency of the type and the vendor.
func whichllm(r row) float64 {
	q := r.query
	if q == nil {
		return 0
	}
	w := q.Work
	if q.Card == nil {
		return 18 / ((w.HostOps) / 2 / 1e9)
	}
	efficiency := map[string]float64{"q4_k": 0.55, "q4_0": 0.56, "q5": 0.52, "q6_k": 0.5, "q8_0": 0.45, "f16": 0.4,
		"q2-3_k": 0.4, "iq1-3": 0.3, "iq4": 0.45}[q.Setting.Type]
	if efficiency == 0 {
		efficiency = 0.5
	}
	switch speed.Family(q.Card) {
	case "amd":
		efficiency *= 0.78
	case "apple":
		efficiency *= 0.82
	case "intel":
		efficiency *= 0.65
	}
	read := w.CardBytes + w.HostBytes
	if all := w.CardExpertsAll + w.HostExpertsAll; all > 0 {
		read = math.Max(read+w.CardExpertBytes+w.HostExpertBytes, 0.1*(read+all))
	}
	rate := q.Card.BandwidthBytesPS / read * efficiency
	if w.HostBytes > 0 || w.HostExpertBytes > 0 {
		rate *= 0.45
	}
	return rate
}
