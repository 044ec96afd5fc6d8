package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/cuda/nvml"
	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/units"
)

// smiLimit is far above what NVML and nvidia-smi take; with a driver that hangs they never answer, and the other
// memories are still watched.
const smiLimit = 5 * time.Second

// Cards read what is used of each card: through NVML, which takes nothing there, or nvidia-smi, a process of its own
// that says the same; where neither is installed, as in containers that are given the driver alone, through a context
// of its own on each card, which does take memory.
type Cards struct {
	Library    string // of the driver, "" for the system's
	Management string // NVML's, "" for the system's
	manager    *nvml.Reader
	unmanaged  bool // there is no NVML: it is not looked for again
	driver     *cuda.Driver
	contexts   []*cuda.Context
	seen       pressure.Readings
	buses      []string // of the cards, in the order in which they were first listed
	absent     bool     // there is neither: nobody is asked again
}

// cardAnswer is one card's: its budget, or why that could not be read.
type cardAnswer struct {
	pressure.Budget
	unread  string
	covered bool // by the parts of the card
	whole   bool // all that there is of the card is listed: a part that is not is no more
}

// Read returns the cards' budgets. Of a card that fails to answer, or is listed no more, the last reading stands, and
// it is named as unread: pressure that can no longer be seen has not gone away.
func (c *Cards) Read(ctx context.Context) ([]pressure.Budget, []pressure.Unread, error) {
	if c.absent {
		return nil, nil, nil
	}
	answers, err := c.ask(ctx)
	if errors.Is(err, cuda.ErrUnavailable) && !c.seen.Any() {
		c.absent = true
		if why := strings.Join(cuda.Lines(cuda.Diagnose("/", err, nil)), "; "); why != "" {
			return nil, nil, errors.New(why)
		}
		return nil, nil, nil
	}
	if err != nil {
		return c.stand(err)
	}
	var budgets []pressure.Budget
	var unread []pressure.Unread
	for _, a := range c.missing(answers) {
		switch {
		case a.whole:
		case a.unread == "":
			c.seen.See(a.Budget, true)
			budgets = append(budgets, a.Budget)
		default:
			b, u, ok := c.seen.Stand(pressure.Unread{Name: a.Name, Why: a.unread, Covered: a.covered}, nil)
			if ok {
				budgets = append(budgets, b)
			}
			unread = append(unread, u)
		}
	}
	return budgets, unread, nil
}

// missing adds what was read before and is not among the answers, and forgets what is known to be no more: a card that
// was divided since, parts that were made others.
func (c *Cards) missing(answers []cardAnswer) []cardAnswer {
	listed := func(is func(cardAnswer) bool) bool { return slices.ContainsFunc(answers, is) }
	answered := func(name string) bool { return listed(func(a cardAnswer) bool { return a.Name == name && !a.whole }) }
	c.seen.Forget(func(name string) bool {
		card, _, _ := strings.Cut(name, partOf)
		return !answered(name) && listed(func(a cardAnswer) bool { return a.whole && a.Name == card })
	})
	for _, name := range c.seen.Names() {
		if !answered(name) {
			answers = append(answers, cardAnswer{Budget: pressure.Budget{Name: name}, unread: "listed no more"})
		}
	}
	return answers
}

// stand is the answer where all cards fail at once.
func (c *Cards) stand(err error) ([]pressure.Budget, []pressure.Unread, error) {
	if r, _ := c.seen.Settle(c.seen.Fail(err)); len(r.Budgets) > 0 {
		return r.Budgets, r.Unread, fmt.Errorf("the cards' last reading stands: %w", err)
	}
	return nil, []pressure.Unread{{Name: "cards", Why: err.Error()}}, err
}

func (c *Cards) ask(ctx context.Context) ([]cardAnswer, error) {
	if c.driver == nil {
		ctx, cancel := context.WithTimeout(ctx, smiLimit)
		defer cancel()
		smi, err := c.manage(ctx)
		if errors.Is(err, cuda.ErrUnavailable) {
			smi, err = cuda.RunSMI(ctx)
		}
		if !errors.Is(err, cuda.ErrUnavailable) {
			return c.answers(smi), err
		}
		if err := c.open(); err != nil {
			return nil, err
		}
	}
	var list []cardAnswer
	for i, card := range c.contexts {
		free, total, err := card.MemInfo()
		if err != nil {
			return nil, err
		}
		list = append(list, cardAnswer{Budget: deviceBudget(deviceName(i), free, total)})
	}
	return list, nil
}

// manage asks NVML, which is opened at the first reading and stays so.
func (c *Cards) manage(ctx context.Context) (cuda.SMI, error) {
	if c.manager == nil {
		if c.unmanaged {
			return cuda.SMI{}, cuda.ErrUnavailable
		}
		var err error
		if c.manager, err = nvml.Open(c.Management); err != nil {
			c.unmanaged = true
			return cuda.SMI{}, err
		}
	}
	return c.manager.Read(ctx)
}

// open takes a context on every card. One that cannot be had is an error of them all: a card left out would look idle.
func (c *Cards) open() error {
	driver, err := cuda.Open(c.Library)
	if err != nil {
		return err
	}
	c.driver = driver
	devices, err := driver.Devices()
	for i := 0; err == nil && i < len(devices); i++ {
		var card *cuda.Context
		if card, err = driver.Retain(devices[i].Ordinal); err == nil {
			c.contexts = append(c.contexts, card)
		}
	}
	if err != nil {
		return errors.Join(err, c.Close())
	}
	return nil
}

// Close gives the contexts back.
func (c *Cards) Close() error {
	var faults []error
	for _, card := range c.contexts {
		faults = append(faults, card.Release())
	}
	if c.driver != nil {
		faults = append(faults, c.driver.Close())
	}
	if c.manager != nil {
		faults = append(faults, c.manager.Close())
	}
	c.contexts, c.driver, c.manager = nil, nil, nil
	return errors.Join(faults...)
}

// answers are the cards' memories, and those of the parts of divided cards. A card without memory of its own has none:
// the host's budget is its. One that had some before failed to tell it.
func (c *Cards) answers(smi cuda.SMI) []cardAnswer {
	var list []cardAnswer
	answer := func(name string, total, free *int64, unread string) {
		switch told := total != nil && free != nil; {
		case told && *total > 0 && *free >= 0 && *free <= *total:
			list = append(list, cardAnswer{Budget: deviceBudget(name, *free, *total)})
		case told:
			unread = cmp.Or(unread, fmt.Sprintf("%d of %d bytes free are no sizes", *free, *total))
		case slices.Contains(c.seen.Names(), name):
			unread = cmp.Or(unread, "no size is told")
		}
		if unread != "" {
			list = append(list, cardAnswer{Budget: pressure.Budget{Name: name}, unread: unread})
		}
	}
	for i, g := range smi.GPUs {
		name := deviceName(c.place(g, i))
		if len(g.Instances) == 0 {
			answer(name, g.TotalBytes, g.FreeBytes, g.Unread)
		} else if g.Unread != "" { // programs get memory of the parts alone
			list = append(list, cardAnswer{Budget: pressure.Budget{Name: name}, unread: g.Unread, covered: true})
		}
		for _, part := range g.Instances {
			answer(name+partOf+part.Index, part.TotalBytes, part.FreeBytes, part.Unread)
		}
		if len(g.Instances) > 0 || g.Unread == "" && g.TotalBytes != nil {
			list = append(list, cardAnswer{Budget: pressure.Budget{Name: name}, whole: true})
		}
	}
	return list
}

// partOf stands between the names of a card and of its part.
const partOf = " part "

// place is that of a card in the first listing that had it: where one falls off the bus, the others keep their names.
func (c *Cards) place(g cuda.SMIDevice, i int) int {
	bus := cmp.Or(g.PCIBusID, g.UUID, strconv.Itoa(i))
	at := slices.Index(c.buses, bus)
	if at < 0 {
		at, c.buses = len(c.buses), append(c.buses, bus)
	}
	return at
}

func deviceName(i int) string { return "device " + strconv.Itoa(i) }

func deviceBudget(name string, free, total int64) pressure.Budget {
	return pressure.Budget{Name: name, Device: true, Used: units.Bytes(total - free), Limit: units.Bytes(total)}
}
