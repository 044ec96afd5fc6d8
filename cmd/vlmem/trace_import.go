package main

import (
	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/trace"
)

type traceImportOptions struct {
	device int
	out    output
}

func newTraceImportCmd(env *environment) *cobra.Command {
	var o traceImportOptions
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Turn a recording into vlmem's own trace format",
		Long: `import writes a recording as vlmem's own trace: what was live at its start first, then every allocation and free, with
the requested sizes and the innermost line of the program's own code as call site. Addresses are left behind.

` + traceFiles,
		Example: "  vlmem trace import snapshot.pickle -o run.vlmt",
		Args:    one("FILE"),
		RunE:    func(_ *cobra.Command, args []string) error { return runTraceImport(env, &o, args[0]) },
	}
	o.out.format, o.out.formats = "text", []string{"text"} // the only one, so no --format that settings could change
	cmd.Flags().StringVarP(&o.out.path, "output", "o", "", "write to this file, atomically, instead of stdout")
	cmd.Flags().IntVar(&o.device, "device", -1, "device to take, counted from 0 (needed where the file holds several)")
	return cmd
}

func runTraceImport(env *environment, o *traceImportOptions, path string) error {
	return o.out.write(env, func(w *outlet.Pending) error {
		t, err := trace.OpenDevice(path, o.device)
		if err != nil {
			return err
		}
		for _, line := range t.Warnings {
			env.warn("%s", line)
		}
		return t.Write(w)
	})
}
