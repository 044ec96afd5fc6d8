package watch

import (
	"context"
	"errors"
	"fmt"
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
	seen       readings
	absent     bool // there is neither: nobody is asked again
}

// cardAnswer is one card's: its budget, or why that could not be read.
type cardAnswer struct {
	pressure.Budget
	unread  string
	covered bool // by the parts of the card
}

// Read returns the cards' budgets. Of a card that fails to answer the last reading stands, and it is named as unread:
// pressure that can no longer be seen has not gone away.
func (c *Cards) Read(ctx context.Context) ([]pressure.Budget, []pressure.Unread, error) {
	if c.absent {
		return nil, nil, nil
	}
	answers, err := c.ask(ctx)
	if errors.Is(err, cuda.ErrUnavailable) {
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
	for _, a := range answers {
		if a.unread == "" {
			c.seen.see(a.Budget, true)
			budgets = append(budgets, a.Budget)
			continue
		}
		b, u, ok := c.seen.stand(pressure.Unread{Name: a.Name, Why: a.unread, Covered: a.covered}, nil)
		if ok {
			budgets = append(budgets, b)
		}
		unread = append(unread, u)
	}
	return budgets, unread, nil
}

// stand is the answer where all cards fail at once.
func (c *Cards) stand(err error) ([]pressure.Budget, []pressure.Unread, error) {
	if r, _ := c.seen.settle(c.seen.fail(err)); len(r.Budgets) > 0 {
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
			return smiAnswers(smi), err
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

// smiAnswers are the cards' memories, and those of the parts of divided cards. A card without memory of its own has
// none: the host's budget is its.
func smiAnswers(smi cuda.SMI) []cardAnswer {
	var list []cardAnswer
	answer := func(name string, total, free *int64, unread string) {
		switch {
		case total != nil && free != nil:
			list = append(list, cardAnswer{Budget: deviceBudget(name, *free, *total)})
		case unread != "":
			list = append(list, cardAnswer{Budget: pressure.Budget{Name: name}, unread: unread})
		}
	}
	for i, g := range smi.GPUs {
		if len(g.Instances) == 0 {
			answer(deviceName(i), g.TotalBytes, g.FreeBytes, g.Unread)
		} else if g.Unread != "" { // programs get memory of the parts alone
			list = append(list, cardAnswer{pressure.Budget{Name: deviceName(i)}, g.Unread, true})
		}
		for _, part := range g.Instances {
			answer(deviceName(i)+" part "+part.Index, part.TotalBytes, part.FreeBytes, part.Unread)
		}
	}
	return list
}

func deviceName(i int) string { return "device " + strconv.Itoa(i) }

func deviceBudget(name string, free, total int64) pressure.Budget {
	return pressure.Budget{Name: name, Device: true, Used: units.Bytes(total - free), Limit: units.Bytes(total)}
}
