// Command speed fits and tries the constants of package internal/speed.
//
//	go run ./tools/speed --predict FILE     predictions of every row of FILE, as CSV
//	go run ./tools/speed --fit FILE         refit with whole sources left out; errors by class, ours and the peers'
//	go run ./tools/speed --against FILE     errors of the constants as they are on FILE's rows, beside the peers' rules
//	go run ./tools/speed --fit FILE --write internal/speed/constants.json
package main

import (
	"bytes"
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
	against := flag.String("against", "", "CSV of rows to try the constants on, beside the rules of llmfit and whichllm")
	write := flag.String("write", "", "with --fit: write the constants to this file")
	worst := flag.Int("worst", 0, "with --fit: print this many of the worst rows of each class")
	flag.Parse()
	if err := run(*predict, *fit, *against, *write, *worst); err != nil {
		fmt.Fprintln(os.Stderr, "speed:", err)
		os.Exit(2)
	}
}

func run(predict, fit, against, write string, worst int) error {
	path := predict + fit + against
	if path == "" || path != predict && path != fit && path != against {
		return fmt.Errorf("give one of --predict FILE, --fit FILE and --against FILE")
	}
	if write != "" && fit == "" {
		return fmt.Errorf("--write goes with --fit")
	}
	s, err := readSheets()
	if err != nil {
		return err
	}
	rows, err := readRows(path, s)
	if err != nil {
		return err
	}
	if fit != "" {
		own, err := s.rows("own.csv", bytes.NewReader(ownCSV))
		if err != nil {
			return err
		}
		rows = append(rows, own...)
		return fitAll(os.Stdout, rows, write, worst)
	}
	if against != "" {
		return againstPeers(os.Stdout, rows, worst)
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
			for i, v := range []float64{a.Decode.Median, a.Decode.Low, a.Decode.High, a.Prefill.Median, a.Prefill.Low,
				a.Prefill.High} {
				if v > 0 {
					line[i+1] = strconv.FormatFloat(v, 'g', 5, 64)
				}
			}
		}
		lines = append(lines, line)
	}
	return w.WriteAll(lines)
}
