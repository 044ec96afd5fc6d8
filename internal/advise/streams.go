package advise

import "fmt"

// Streams is how many of each kind of stream overlap copies with computing.
type Streams struct {
	Compute Value[int] `yaml:"compute" json:"compute"`
	Copy    Value[int] `yaml:"copy" json:"copy"`
}

func (in *Inputs) streams() Streams {
	g := in.gpu()
	if g == nil {
		return Streams{derived(0, "no card"), derived(0, "no card")}
	}
	engines := max(1, g.CopyEngines)
	return Streams{
		Compute: derived(1, "one request at a time computes; a second would share the same SMs"),
		Copy: derived(engines, fmt.Sprintf("one for each of %d copy engines: image i+1 is copied while image i computes",
			engines)),
	}
}
