// Command scrapes times 10,000 scrapes of vlmem watch --listen, over one connection kept open and over a new one each, and
// holds the exporter's resident memory flat. By hand, outside CI:
//
//	go run ./scrapes VLMEM
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"
)

const (
	scrapes = 10_000
	address = "127.0.0.1:16840"
	growth  = 1 << 20 // bytes that flat allows
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "scrapes:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("want the program: go run ./scrapes VLMEM")
	}
	watch := exec.Command(args[0], "watch", "--listen", address, "--format", "prometheus")
	if err := watch.Start(); err != nil {
		return err
	}
	defer func() {
		_ = watch.Process.Signal(os.Interrupt)
		_ = watch.Wait()
	}()
	kept, fresh := &http.Client{}, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if _, err := scrape(kept); err == nil {
			break
		} else if time.Since(start) > time.Minute {
			return err
		}
	}
	for _, c := range []struct {
		name   string
		client *http.Client
	}{{"one connection", kept}, {"a new connection each", fresh}} {
		if err := measure(c.name, c.client, watch.Process.Pid); err != nil {
			return err
		}
	}
	return nil
}

// measure warms up with as many as it then times: the heap of a program that just began is still growing.
func measure(name string, client *http.Client, pid int) error {
	var before int64
	var times []time.Duration
	var sum time.Duration
	for i := range 2 * scrapes {
		if i == scrapes {
			before = resident(pid)
		}
		start := time.Now()
		if _, err := scrape(client); err != nil {
			return err
		}
		if took := time.Since(start); i >= scrapes {
			times, sum = append(times, took), sum+took
		}
	}
	after := resident(pid)
	slices.Sort(times)
	fmt.Printf("%s: %d scrapes, mean %v, median %v, p99 %v, longest %v; resident %d KiB before, %d KiB after\n", name,
		scrapes, (sum / scrapes).Round(time.Microsecond), times[scrapes/2].Round(time.Microsecond),
		times[scrapes*99/100].Round(time.Microsecond), times[scrapes-1].Round(time.Microsecond), before>>10, after>>10)
	if after > before+growth {
		return fmt.Errorf("resident memory grew by %d KiB", (after-before)>>10)
	}
	return nil
}

func scrape(client *http.Client) ([]byte, error) {
	r, err := client.Get("http://" + address + "/metrics")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	page, err := io.ReadAll(r.Body)
	if err == nil && (r.StatusCode != http.StatusOK || !bytes.HasSuffix(page, []byte("\n"))) {
		err = fmt.Errorf("status %d, %d bytes", r.StatusCode, len(page))
	}
	return page, err
}

// resident is VmRSS, in bytes.
func resident(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kib, _ := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			return kib << 10
		}
	}
	return 0
}
