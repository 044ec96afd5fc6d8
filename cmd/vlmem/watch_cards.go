package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/units"
)

// smiLimit is far above what nvidia-smi takes; with a driver that hangs it never answers, and the other memories are
// still watched.
const smiLimit = 5 * time.Second

// watchedCards read what is used of each card: through nvidia-smi, which takes nothing there, or, where that is not
// installed, as in containers that are given the driver alone, through a context of its own on each card, which does
// take memory.
type watchedCards struct {
	library  string // of the driver, "" for the system's
	driver   *cuda.Driver
	contexts []*cuda.Context
	last     []pressure.Budget
	absent   bool // there is neither: nobody is asked again
}

// read returns the cards' budgets. When a card that answered before fails to, its last reading stands, with the error:
// pressure that can no longer be seen has not gone away.
func (c *watchedCards) read(ctx context.Context) ([]pressure.Budget, error) {
	if c.absent {
		return nil, nil
	}
	list, err := c.ask(ctx)
	switch {
	case errors.Is(err, cuda.ErrUnavailable):
		c.absent = true
		if why := cuda.Diagnose("/", err, 0); why != "" {
			err = errors.New(why)
		} else {
			err = nil
		}
		return nil, err
	case err != nil && c.last != nil:
		return c.last, fmt.Errorf("the cards' last reading stands: %w", err)
	case err != nil:
		return nil, err
	}
	c.last = list
	return list, nil
}

func (c *watchedCards) ask(ctx context.Context) ([]pressure.Budget, error) {
	if c.driver == nil {
		ctx, cancel := context.WithTimeout(ctx, smiLimit)
		defer cancel()
		smi, err := cuda.RunSMI(ctx)
		if !errors.Is(err, cuda.ErrUnavailable) {
			return smiBudgets(smi), err
		}
		if err := c.open(); err != nil {
			return nil, err
		}
	}
	var list []pressure.Budget
	for i, card := range c.contexts {
		free, total, err := card.MemInfo()
		if err != nil {
			return nil, err
		}
		list = append(list, deviceBudget(i, free, total))
	}
	return list, nil
}

// open takes a context on every card. One that cannot be had is an error of them all: a card left out would look idle.
func (c *watchedCards) open() error {
	driver, err := cuda.Open(c.library)
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
		return errors.Join(err, c.close())
	}
	return nil
}

// close gives the contexts back.
func (c *watchedCards) close() error {
	var faults []error
	for _, card := range c.contexts {
		faults = append(faults, card.Release())
	}
	if c.driver != nil {
		faults = append(faults, c.driver.Close())
	}
	c.contexts, c.driver = nil, nil
	return errors.Join(faults...)
}

func smiBudgets(smi cuda.SMI) []pressure.Budget {
	var list []pressure.Budget
	for i, g := range smi.GPUs {
		if g.TotalBytes != nil && g.FreeBytes != nil {
			list = append(list, deviceBudget(i, *g.FreeBytes, *g.TotalBytes))
		}
	}
	return list
}

func deviceBudget(i int, free, total int64) pressure.Budget {
	return pressure.Budget{Name: "device " + strconv.Itoa(i), Used: units.Bytes(total - free), Limit: units.Bytes(total)}
}
