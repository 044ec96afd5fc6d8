// Command scrapes times 10,000 scrapes of vlmem watch --listen, over one connection kept open and over a new one each,
// and holds the exporter's resident memory flat. Beside them it times a peer that answers every line with the same
// number of bytes and does nothing else: what the peer's longest answer takes is the machine's, not the exporter's.
// The asking side makes no garbage, whose collection it would otherwise time. By hand, outside CI, on a quiet machine:
//
//	go run ./scrapes VLMEM
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"time"
)

const (
	scrapes = 10_000
	address = "127.0.0.1:16840"
	growth  = 1 << 20 // bytes that flat allows
	goal    = time.Millisecond
	burst   = 64
	pause   = 3 * time.Millisecond // after each burst
	asked   = "GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n"
	peer    = "peer"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "scrapes:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == peer {
		return answer(args[1])
	}
	if len(args) != 1 {
		return errors.New("want the program: go run ./scrapes VLMEM")
	}
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	watched, err := started(exec.Command(args[0], "watch", "--listen", address, "--format", "prometheus"))
	if err != nil {
		return err
	}
	page, err := firstPage()
	failed := errors.Join(err, watched.measure("one connection", false), watched.measure("a new connection each", true))
	if watched.stop(); failed != nil {
		return failed
	}
	bare, err := started(exec.Command(os.Args[0], peer, strconv.Itoa(page)))
	if err != nil {
		return err
	}
	defer bare.stop()
	return errors.Join(bare.listening(), bare.measure("the peer, one connection", false),
		bare.measure("the peer, a new connection each", true))
}

// A server is one that runs, and a place for its answers.
type server struct {
	*exec.Cmd
	answer [1 << 16]byte
	times  []time.Duration
}

func started(c *exec.Cmd) (*server, error) {
	return &server{Cmd: c, times: make([]time.Duration, scrapes)}, c.Start()
}

// stop waits for the end, whose code is 130: it was interrupted.
func (s *server) stop() {
	_ = s.Process.Signal(os.Interrupt)
	_ = s.Wait()
}

// listening waits for a first connection.
func (s *server) listening() error {
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			return c.Close()
		}
		if time.Since(start) > time.Minute {
			return err
		}
	}
}

// firstPage is the length in bytes of the first answer that carries a reading.
func firstPage() (int, error) {
	var last error
	for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			var buf [1 << 16]byte
			n, e := scrape(c, buf[:])
			_ = c.Close()
			if e == nil {
				return n, nil
			}
			err = e
		}
		last = err
	}
	return 0, last
}

// measure warms up with as many as it then times: the heap of a program that just began is still growing. Between
// bursts it pauses: whoever computes for 95 % of a second in the real-time class is halted for the rest of it, 50 ms
// (sched_rt_runtime_us), which one scrape would show.
func (s *server) measure(name string, fresh bool) error {
	before, sum := int64(0), time.Duration(0)
	c, err := net.Dial("tcp", address)
	for i := 0; i < 2*scrapes && err == nil; i++ {
		if i == scrapes {
			before = resident(s.Process.Pid)
		}
		if i%burst == 0 {
			time.Sleep(pause)
		}
		start := time.Now()
		if fresh {
			_ = c.Close()
			c, err = net.Dial("tcp", address)
		}
		if err == nil {
			_, err = scrape(c, s.answer[:])
		}
		if took := time.Since(start); i >= scrapes {
			s.times[i-scrapes], sum = took, sum+took
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_ = c.Close()
	return s.judge(name, before, resident(s.Process.Pid), sum)
}

func (s *server) judge(name string, before, after int64, sum time.Duration) error {
	slices.Sort(s.times)
	over, _ := slices.BinarySearch(s.times, goal)
	fmt.Printf("%s: %d scrapes, mean %v, median %v, p99 %v, longest %v; %d over %v; resident %d KiB before, %d KiB "+
		"after\n",
		name, scrapes, (sum / scrapes).Round(time.Microsecond), s.times[scrapes/2].Round(time.Microsecond),
		s.times[scrapes*99/100].Round(time.Microsecond), s.times[scrapes-1].Round(time.Microsecond), scrapes-over, goal,
		before>>10, after>>10)
	if after > before+growth {
		return fmt.Errorf("resident memory grew by %d KiB", (after-before)>>10)
	}
	return nil
}

// scrape asks once and returns the answer's length in bytes. It allocates nothing.
func scrape(c net.Conn, buf []byte) (int, error) {
	if _, err := c.Write([]byte(asked)); err != nil {
		return 0, err
	}
	for n := 0; n < len(buf); {
		k, err := c.Read(buf[n:])
		if err != nil {
			return 0, err
		}
		n += k
		head, body, whole := bytes.Cut(buf[:n], []byte("\r\n\r\n"))
		if !whole {
			continue
		}
		_, rest, _ := bytes.Cut(head, []byte("Content-Length: "))
		digits, _, _ := bytes.Cut(rest, []byte("\r"))
		want, err := strconv.Atoi(string(digits))
		if err != nil || !bytes.HasPrefix(head, []byte("HTTP/1.1 200")) {
			return 0, fmt.Errorf("answered %q", head)
		}
		if len(body) >= want {
			return want, nil
		}
	}
	return 0, fmt.Errorf("an answer of more than %d bytes", len(buf))
}

// answer is the peer: it writes the same page at every empty line that it reads.
func answer(size string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	page := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
	page = append(page, make([]byte, n)...)
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			for lines := bufio.NewScanner(c); lines.Scan(); {
				if len(lines.Bytes()) > 0 {
					continue
				}
				if _, err := c.Write(page); err != nil {
					return
				}
			}
		}()
	}
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
