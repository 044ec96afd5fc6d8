package settings

import "github.com/spf13/pflag"

// Values are those of the named flags that there are, of lists each.
func Values(flags *pflag.FlagSet, names ...string) (values []string) {
	for _, name := range names {
		f := flags.Lookup(name)
		if f == nil {
			continue
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = append(values, list.GetSlice()...)
		} else if f.Value.String() != "" {
			values = append(values, f.Value.String())
		}
	}
	return values
}
