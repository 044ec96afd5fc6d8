package speed

// ClassOf names the class of a query: the machines and settings whose errors are alike, for which intervals are kept.
func ClassOf(q Query) string {
	w := q.Work
	switch {
	case q.Card == nil && q.Host == nil:
		return "nothing"
	case q.Card == nil && w.Experts:
		return "experts, " + q.Host.Class + " cpu"
	case q.Card == nil:
		return q.Host.Class + " cpu"
	case w.HostExpertsAll > 0 && w.HostLayers == 0:
		return "experts on the host"
	case w.HostBytes > 0:
		return "layers on the host"
	}
	name := q.Card.family()
	switch {
	case name == "tensor" && q.Setting.Engine != "llama.cpp" && q.Setting.Engine != "ollama":
		return "nvidia, " + q.Setting.Engine
	case name == "tensor" && w.Experts:
		return "nvidia, experts"
	case name == "tensor" && w.CardOps < 5e9-2e9:
		return "nvidia, small"
	case name == "tensor" && (q.Setting.Backend != "cuda"):
		return "nvidia, " + q.Setting.Backend
	case name == "tensor":
		return "nvidia"
	case name == "pascal":
		return "pascal, " + q.Setting.Backend
	case q.Card.Arch == "apu":
		return "amd apu"
	}
	return name
}
