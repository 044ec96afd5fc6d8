package main

import (
	"github.com/spf13/pflag"
)

// engineWords are the names that engines have for what advise calls context, precision and concurrency. Each command has
// its own as documented flags and takes the others as well.
var engineWords = map[string]string{"context": "ctx", "precision": "quant", "concurrency": "parallel"}

// otherWords lets a command be given a flag of its own by the other vocabulary's name.
func otherWords(flags *pflag.FlagSet) {
	own := map[string]string{}
	for word, other := range engineWords {
		switch {
		case flags.Lookup(word) != nil && flags.Lookup(other) == nil:
			own[other] = word
		case flags.Lookup(other) != nil && flags.Lookup(word) == nil:
			own[word] = other
		}
	}
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if word, ok := own[name]; ok {
			name = word
		}
		return pflag.NormalizedName(name)
	})
}
