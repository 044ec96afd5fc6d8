package main

import (
	"fmt"
	"math"
	"strings"

	"gonum.org/v1/gonum/mat"

	"github.com/vlmem/vlmem/internal/speed"
)

// problem is one regression: logarithms of seconds against terms, with an offset for each machine.
//
// It minimises Σ_r w_r (log y_r − log t_r(θ) − u_m(r))²/σ² + Σ_k θ_k²/τ_k² + Σ_m u_m²/υ², where w_r are the weights of
// Student's t with ν degrees of freedom: a run that was throttled or spilled does not move the fit. u_m, one for each
// machine of a source, keeps a machine with hundreds of rows from speaking for its kind.
type problem struct {
	terms   [][]speed.Term
	seconds []float64
	machine []int
	host    []bool
	weight  []float64
}

const (
	residualSigma = 0.08
	tDegrees      = 3.0
	iterations    = 60
)

// prior is what is expected of an effect before any row is seen: its mean and scale. Intercepts have the means of a
// kernel that reaches three quarters of a card's bandwidth, two thirds of a host's, four tenths of a card's matrix
// units: no kernel passes the peak, so the scales are small there. Refinements have none.
func prior(name string) (mean, scale float64) {
	switch name {
	case "weights":
		return math.Log(1 / 0.75), 0.1
	case "host weights":
		return math.Log(1 / 0.65), 0.15
	case "ops":
		return math.Log(1 / 0.4), 0.3
	case "cache/no flash", "scores/no flash":
		return math.Log(1.5), 0.5
	case "host cache": // processors read the cache at a third of the weights' rate
		return math.Log(3), 0.4
	case "weights/family:pascal vulkan": // bound by arithmetic: a third of the bandwidth, whatever the size
		return 0.35, 0.2
	case "copy": // 16 GB/s: four of five lanes of a PCIe 4.0 bus of eight, or half of sixteen
		return 0, 0.15
	case "weights/bandwidth", "host weights/bandwidth":
		return 0, 0.15
	}
	if name == "ops/cards" {
		return -0.8, 0.2
	}
	weights := strings.HasPrefix(name, "weights/") || strings.HasPrefix(name, "host weights/")
	switch {
	case !strings.Contains(name, "/"):
		return 0, 0.7
	case strings.Contains(name, "vulkan"), strings.Contains(name, "engine:llamafile"), strings.Contains(name, "rocm"):
		return 0, 0.4
	case strings.Contains(name, "type:") && weights:
		return 0, 0.12
	case strings.Contains(name, "type:"):
		return 0, 0.2
	case weights && strings.Contains(name, "arch:"):
		return 0, 0.3
	case weights:
		return 0, 0.2
	}
	return 0, 0.25
}

// machineScale is υ: how far machines of one kind lie apart.
func machineScale(host bool) float64 {
	if host {
		return 0.25
	}
	return 0.12
}

// design is a problem with its effects numbered.
type design struct {
	*problem
	names   []string
	columns [][]column // of each row, the effects of each term one after another
	scale   []float64  // of each machine
}

type column struct {
	term, effect int
	by           float64
}

func newDesign(p *problem) *design {
	d := &design{problem: p}
	index := map[string]int{}
	for _, ts := range p.terms {
		var cs []column
		for i, t := range ts {
			for _, e := range t.Effects {
				if _, ok := index[e.Name]; !ok {
					index[e.Name] = len(d.names)
					d.names = append(d.names, e.Name)
				}
				cs = append(cs, column{i, index[e.Name], e.By})
			}
		}
		d.columns = append(d.columns, cs)
	}
	for r, m := range p.machine {
		for len(d.scale) <= m {
			d.scale = append(d.scale, 0)
		}
		d.scale[m] = machineScale(p.host[r])
	}
	return d
}

// fit returns the effects and the machines' offsets, by Gauss and Newton from start.
func (p *problem) fit(start map[string]float64) (map[string]float64, []float64, error) {
	d := newDesign(p)
	x, u := make([]float64, len(d.names)), make([]float64, len(d.scale))
	for i, name := range d.names {
		x[i], _ = prior(name)
		if v, ok := start[name]; ok {
			x[i] = v
		}
	}
	for range iterations {
		most, err := d.step(x, u)
		if err != nil {
			return nil, nil, err
		}
		if most < 1e-3 {
			break
		}
	}
	out := map[string]float64{}
	for i, name := range d.names {
		out[name] = x[i]
	}
	return out, u, nil
}

// normal is the normal equations: of the effects, of the offsets, whose block is diagonal, and what joins them.
type normal struct {
	n               int
	a, b            []float64 // effects by effects; effects
	cross           []float64 // offsets by effects
	diagonal, right []float64 // offsets
}

// equations sums the priors and the rows.
func (d *design) equations(x, u []float64) *normal {
	n := len(x)
	e := &normal{n, make([]float64, n*n), make([]float64, n), make([]float64, n*len(u)), make([]float64, len(u)),
		make([]float64, len(u))}
	for i, name := range d.names {
		mean, scale := prior(name)
		l := 1 / square(scale)
		e.a[i*n+i], e.b[i] = l, l*(mean-x[i])
	}
	for m := range u {
		l := 1 / square(d.scale[m])
		e.diagonal[m], e.right[m] = l, -l*u[m]
	}
	grad := make([]float64, n)
	for r := range d.columns {
		d.row(r, x, u, grad, func(w, res float64, touched []int) {
			m := d.machine[r]
			e.diagonal[m] += w
			e.right[m] += w * res
			for _, i := range touched {
				e.b[i] += w * grad[i] * res
				e.cross[m*n+i] += w * grad[i]
				for _, j := range touched {
					e.a[i*n+j] += w * grad[i] * grad[j]
				}
			}
		})
	}
	return e
}

// eliminate takes the offsets out of the effects' equations.
func (e *normal) eliminate() {
	for m := range e.right {
		c := e.cross[m*e.n : (m+1)*e.n]
		for i, ci := range c {
			if ci == 0 {
				continue
			}
			f := ci / e.diagonal[m]
			e.b[i] -= f * e.right[m]
			for j, cj := range c {
				e.a[i*e.n+j] -= f * cj
			}
		}
	}
}

// step moves effects x and offsets u once, and returns the largest move of an effect.
func (d *design) step(x, u []float64) (float64, error) {
	e := d.equations(x, u)
	e.eliminate()
	var chol mat.Cholesky
	if !chol.Factorize(mat.NewSymDense(e.n, e.a)) {
		return 0, fmt.Errorf("fitting: the normal equations are singular")
	}
	var move mat.VecDense
	if err := chol.SolveVecTo(&move, mat.NewVecDense(e.n, e.b)); err != nil {
		return 0, fmt.Errorf("fitting: %w", err)
	}
	most := 0.0
	for i := range x {
		s := math.Max(-0.5, math.Min(0.5, move.AtVec(i)))
		x[i] += s
		most = math.Max(most, math.Abs(s))
	}
	for m := range u {
		for i := range x {
			e.right[m] -= e.cross[m*e.n+i] * move.AtVec(i)
		}
		u[m] += e.right[m] / e.diagonal[m]
	}
	return most, nil
}

// row gives do the weight, the residual and the effects touched of one row, with its gradient in grad.
func (d *design) row(r int, x, u, grad []float64, do func(w, res float64, touched []int)) {
	ts := d.terms[r]
	share := make([]float64, len(ts))
	for _, c := range d.columns[r] {
		share[c.term] += c.by * x[c.effect]
	}
	sum := 0.0
	for i, t := range ts {
		share[i] = t.Seconds * math.Exp(share[i])
		sum += share[i]
	}
	var touched []int
	for _, c := range d.columns[r] {
		if grad[c.effect] == 0 {
			touched = append(touched, c.effect)
		}
		grad[c.effect] += c.by*share[c.term]/sum + 1e-300
	}
	res := math.Log(d.seconds[r]) - math.Log(sum) - u[d.machine[r]]
	z := res / residualSigma
	do(d.weight[r]*(tDegrees+1)/(tDegrees+z*z)/square(residualSigma), res, touched)
	for _, i := range touched {
		grad[i] = 0
	}
}

func square(x float64) float64 { return x * x }
