package watch

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/verdict"
)

// Exporter serves the last reading to Prometheus. A scrape reads no memory counters: it costs the same however many
// ask.
type Exporter struct {
	server http.Server
	page   atomic.Pointer[[]byte] // nil before the first reading
}

// scrapeTimeout ends connections that neither ask nor read, far above what a scrape takes.
const scrapeTimeout = 10 * time.Second

// Listen opens the address: a port alone is one of this host's loopback, :PORT one of all its addresses.
func Listen(address string) (*Exporter, error) {
	if _, err := strconv.ParseUint(address, 10, 16); err == nil {
		address = net.JoinHostPort("127.0.0.1", address)
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("--listen %s: want PORT for this host alone, :PORT for all its addresses, or ADDRESS:PORT",
			address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, verdict.Unable.Errorf("--listen %s: %w", address, err)
	}
	e := &Exporter{}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", e)
	e.server = http.Server{Addr: l.Addr().String(), Handler: mux, ReadTimeout: scrapeTimeout, WriteTimeout: scrapeTimeout,
		IdleTimeout: 10 * time.Minute, MaxHeaderBytes: 16 << 10}
	go func() { _ = e.server.Serve(l) }() // ends with Close, which is its only error
	return e, nil
}

// Addr is the address that is listened at.
func (e *Exporter) Addr() string { return e.server.Addr }

// ServeHTTP writes the last reading.
func (e *Exporter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	page := e.page.Load()
	if page == nil {
		http.Error(w, "no reading yet", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(*page)))
	_, _ = w.Write(*page)
}

// Show takes a reading in place of the last.
func (e *Exporter) Show(r pressure.Reading, s pressure.State) error {
	if e == nil {
		return nil
	}
	var b bytes.Buffer
	if err := report.Pressure(&b, r, s); err != nil {
		return err
	}
	page := b.Bytes()
	e.page.Store(&page)
	return nil
}

// Close lets scrapes that are under way end.
func (e *Exporter) Close() error {
	if e == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return e.server.Shutdown(ctx)
}
