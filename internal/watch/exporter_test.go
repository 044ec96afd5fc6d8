package watch

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/pressure"
)

// TestScrapesMakeNoGarbage: over one connection, as Prometheus keeps it.
func TestScrapesMakeNoGarbage(t *testing.T) {
	e := listening(t)
	if err := e.Show(pressure.Reading{}, pressure.State{}); err != nil {
		t.Fatal(err)
	}
	c := dial(t, e)
	asked, answer := []byte("GET /metrics HTTP/1.1\r\nHost: node\r\nAccept-Encoding: gzip\r\n\r\n"), make([]byte, 1<<16)
	scrape := func() {
		if _, err := c.Write(asked); err != nil {
			t.Fatal(err)
		}
		for n := 0; !bytes.HasSuffix(answer[:n], []byte("vlmem_pressure_level 0\n")); {
			k, err := c.Read(answer[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	}
	if made := testing.AllocsPerRun(1000, scrape); made > 0 {
		t.Errorf("%.2f allocations a scrape", made)
	}
}

// TestCloseWaitsForNobody who opened a connection and never asks.
func TestCloseWaitsForNobody(t *testing.T) {
	e := listening(t)
	dial(t, e)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if c, err := net.DialTimeout("tcp", e.Addr(), time.Second); err == nil {
		_ = c.Close()
		t.Error("it still listens")
	}
}

// TestWhatIsNoScrapeIsRefused without ending the server.
func TestWhatIsNoScrapeIsRefused(t *testing.T) {
	e := listening(t)
	for request, want := range map[string]string{
		"POST /metrics HTTP/1.1\r\nHost: node\r\nContent-Length: 2\r\n\r\nhi":                          "HTTP/1.1 405 ",
		"GET /other HTTP/1.1\r\nHost: node\r\n\r\n":                                                    "HTTP/1.1 404 ",
		"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n":                                                  "HTTP/1.1 503 ",
		"nothing of the kind\r\n\r\n":                                                                  "HTTP/1.1 400 ",
		"GET /metrics HTTP/1.1\r\nHost: node\r\nLong: " + string(make([]byte, 1<<15)) + "\r\n\r\n":     "HTTP/1.1 4",
		"POST /metrics HTTP/1.1\r\nHost: node\r\nContent-Length: 9999999\r\n\r\n" + "more than a page": "HTTP/1.1 4",
	} {
		c := dial(t, e)
		if _, err := c.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 1<<12)
		n, err := c.Read(answer)
		if err != nil || !bytes.HasPrefix(answer[:n], []byte(want)) {
			t.Errorf("%.40q: %.60q, %v; want %s", request, answer[:n], err, want)
		}
	}
}

func listening(t *testing.T) *Exporter {
	t.Helper()
	e, err := Listen("0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func dial(t *testing.T, e *Exporter) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", e.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
