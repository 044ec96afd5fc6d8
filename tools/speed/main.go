// Command speed fits and tries the constants of package internal/speed.
//
//	go run ./tools/speed --predict FILE     predictions of every row of FILE, as CSV
//	go run ./tools/speed --fit FILE         refit with whole sources left out; errors by class, ours and the peers'
//	go run ./tools/speed --fit FILE --write internal/speed/constants.json
package main

import (
	"encoding/csv"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/vlmem/vlmem/internal/speed"
)

func main() {
	predict := flag.String("predict", "", "CSV of rows whose speed to predict")
	fit := flag.String("fit", "", "CSV of rows to fit")
	write := flag.String("write", "", "with --fit: write the constants to this file")
	worst := flag.Int("worst", 0, "with --fit: print this many of the worst rows of each class")
	flag.Parse()
	if err := run(*predict, *fit, *write, *worst); err != nil {
		fmt.Fprintln(os.Stderr, "speed:", err)
		os.Exit(2)
	}
}

func run(predict, fit, write string, worst int) error {
	if (predict == "") == (fit == "") {
		return fmt.Errorf("give one of --predict FILE and --fit FILE")
	}
	s, err := readSheets()
	if err != nil {
		return err
	}
	rows, err := readRows(fit+predict, s)
	if err != nil {
		return err
	}
	if fit != "" {
		return fitAll(os.Stdout, rows, write, worst)
	}
	return predictAll(os.Stdout, rows)
}

// predictAll writes the predictions of rows as CSV; refused fields stay empty.
func predictAll(out io.Writer, rows []row) error {
	c, err := speed.Fitted()
	if err != nil {
		return err
	}
	w := csv.NewWriter(out)
	lines := [][]string{{"id", "decode_tps", "decode_low", "decode_high", "prefill_tps", "prefill_low", "prefill_high"}}
	for _, r := range rows {
		line := []string{r.id, "", "", "", "", "", ""}
		if r.query != nil {
			a := c.Predict(*r.query)
			for i, v := range []float64{a.Decode.Median, a.Decode.Low, a.Decode.High, a.Prefill.Median, a.Prefill.Low, a.Prefill.High} {
				if v > 0 {
					line[i+1] = strconv.FormatFloat(v, 'g', 5, 64)
				}
			}
		}
		lines = append(lines, line)
	}
	return w.WriteAll(lines)
}
