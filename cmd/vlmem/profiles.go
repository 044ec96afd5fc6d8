package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/profiles"
)

func newProfilesCmd(env *environment) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:     "profiles [NAME]",
		Short:   "List the built-in hardware and models, or show one",
		Example: "  vlmem profiles\n  vlmem profiles gtx-1080 --format yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return showProfile(env, &out, args[0])
			}
			return listProfiles(env, &out)
		},
		ValidArgs: append(profiles.HardwareNames(), profiles.ModelNames()...),
	}
	out.addFlags(cmd, "table", "yaml", "json")
	return cmd
}

func listProfiles(env *environment, out *output) error {
	return out.write(env, func(w *outlet.Pending) error {
		hardware, err := catalog.AllHardware()
		if err != nil {
			return err
		}
		models, err := catalog.Models()
		if err != nil {
			return err
		}
		return report.ProfilesOf(hardware, models).Write(w, out.format)
	})
}

func showProfile(env *environment, out *output, name string) error {
	if out.format == "table" {
		out.format = "yaml" // one profile is a document, not a row
	}
	return out.write(env, func(w *outlet.Pending) error {
		var value any
		if h, err := profiles.FindHardware(name); err == nil {
			value = h
		} else if m, err := catalog.Model(name); err == nil {
			value = m
		} else {
			return fmt.Errorf("unknown profile %q: vlmem profiles lists them", name)
		}
		return report.Document(w, out.format, value)
	})
}
