package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrNoLoad means that a log of ollama shows no model being loaded.
var ErrNoLoad = errors.New("the log shows no model that ollama loaded; versions before 0.30 print other lines")

// ollamaStarts stands in the line that ollama prints when it starts a server for a model (llm/llama_server.go).
var ollamaStarts = []byte(`msg="starting llama-server"`)

// ReadOllamaLog reads what ollama serve prints: since 0.30 it runs llama-server for each model, at verbosity 4 and
// without prefixes, and hands its lines on between its own. Of several loads the last counts: where a tower does not
// fit the card, ollama starts the server again with the tower on the host.
func ReadOllamaLog(r io.Reader) ([]Item, error) {
	const most = 256 << 20 // as of llama.cpp's
	log, err := io.ReadAll(io.LimitReader(r, most))
	if err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	items, err := ReadLlamaLog(bytes.NewReader(lastLoad(log)))
	if errors.Is(err, ErrNoBuffers) {
		return nil, ErrNoLoad
	}
	return items, err
}

// lastLoad is what follows the last start of a server that named buffers: one that only began, or is beginning as the
// log is read, holds nothing. Where none named any it is the first.
func lastLoad(log []byte) []byte {
	for end := len(log); ; {
		at := bytes.LastIndex(log[:end], ollamaStarts)
		if at < 0 {
			return log[:end]
		}
		if load := log[at:end]; llamaBuffer.Match(load) {
			return load
		}
		end = at
	}
}

// readOllamaRates reads how fast the server of the last load was.
func readOllamaRates(log []byte) Answered { return ReadLlamaRates(lastLoad(log)) }
