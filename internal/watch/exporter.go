package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/verdict"
)

// Exporter serves the last reading to Prometheus. A scrape reads no memory counters and makes no garbage: it costs the
// same however many ask, and whose turn it is to collect is never a scrape's. With net/http, which makes some 2 KB a
// scrape, one in some thousand met a collection and took 0.8 to 1.3 ms.
type Exporter struct {
	server  fasthttp.Server
	address string
	page    atomic.Pointer[[]byte] // nil before the first reading
}

// scrapeTimeout ends connections that neither ask nor read, far above what a scrape takes.
const scrapeTimeout = 10 * time.Second

// silence drops what the server would log: what a client sends amiss is answered, and no concern of who watches.
type silence struct{}

func (silence) Printf(string, ...any) {}

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
	e := &Exporter{address: l.Addr().String()}
	e.server = fasthttp.Server{Handler: e.answer, Name: "vlmem", ReadTimeout: scrapeTimeout, WriteTimeout: scrapeTimeout,
		IdleTimeout: 10 * time.Minute, ReadBufferSize: 16 << 10, MaxRequestBodySize: 1 << 10,
		Logger: silence{}}
	go func() { _ = e.server.Serve(l) }() // ends with Close, which is its only error
	return e, nil
}

// Addr is the address that is listened at.
func (e *Exporter) Addr() string { return e.address }

// answer writes the last reading. The page is handed on, not copied: a later reading comes in another.
func (e *Exporter) answer(ctx *fasthttp.RequestCtx) {
	page := e.page.Load()
	switch {
	case string(ctx.Path()) != "/metrics":
		ctx.Error("not found: /metrics is here", fasthttp.StatusNotFound)
	case !ctx.IsGet() && !ctx.IsHead():
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "GET, HEAD")
		ctx.Error("only GET", fasthttp.StatusMethodNotAllowed)
	case page == nil:
		ctx.Error("no reading yet", fasthttp.StatusServiceUnavailable)
	default:
		ctx.SetContentType("text/plain; version=0.0.4; charset=utf-8")
		ctx.Response.SetBodyRaw(*page)
	}
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

// Close lets scrapes that are under way end, for a second.
func (e *Exporter) Close() error {
	if e == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := e.server.ShutdownWithContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil // one that never asks keeps nobody
}
