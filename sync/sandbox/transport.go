package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Transport returns a RoundTripper that calls h in memory, for tests that run
// under a virtual clock, where a real socket would stop it.
//
// It behaves as a connection does. The answer starts when the handler flushes,
// writes more than 4 KiB or returns; a body that comes slowly is read slowly. The
// handler's context ends with the request's, or when the answer's body is closed.
// A handler that panics with http.ErrAbortHandler before its answer started makes
// RoundTrip fail with an error that wraps io.ErrUnexpectedEOF; afterwards, and
// when the body is shorter than its Content-Length, reading the body fails with
// io.ErrUnexpectedEOF. Any other panic ends the process.
//
// Each call runs the handler on a goroutine of its own, which ends with the
// handler; an answer's body must be read to its end or closed, as always.
func Transport(h http.Handler) http.RoundTripper { return transport{h} }

type transport struct{ h http.Handler }

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	ctx, cancel := context.WithCancel(req.Context())
	in := req.Clone(ctx)
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	in.RequestURI = req.URL.RequestURI()
	in.RemoteAddr = "127.0.0.1:1"
	if in.Host == "" {
		in.Host = req.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	pr, pw := io.Pipe()
	w := &answerWriter{header: http.Header{}, pipe: pw, req: req, started: make(chan struct{}), left: -1}
	w.body = &answerBody{PipeReader: pr, cancel: cancel, ctx: req.Context()}
	w.buf = bufio.NewWriterSize(startWriter{w}, 4096)
	// A client that leaves unblocks a handler that writes, and itself.
	stop := context.AfterFunc(ctx, func() { pw.CloseWithError(io.ErrClosedPipe) })

	aborted := make(chan error, 1)
	go func() {
		defer in.Body.Close()
		defer stop()
		err := run(t.h, w, in)
		if err == nil {
			err = w.finish()
		}
		if err == nil {
			err = ctx.Err() // an answer that ends because the client left is not whole
		}
		if err != nil {
			aborted <- err
			pw.CloseWithError(io.ErrUnexpectedEOF)
		} else {
			pw.Close()
		}
	}()
	select {
	case <-w.started:
		return w.resp, nil
	case err := <-aborted:
		select {
		case <-w.started:
			return w.resp, nil
		default:
		}
		if cerr := req.Context().Err(); cerr != nil {
			err = cerr
		}
		cancel()
		return nil, err
	case <-req.Context().Done():
		cancel()
		return nil, req.Context().Err()
	}
}

// run calls the handler and turns its abort into an error.
func run(h http.Handler, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if e, ok := p.(error); !ok || !errors.Is(e, http.ErrAbortHandler) {
				panic(p)
			}
			err = fmt.Errorf("the server closed the connection: %w", io.ErrUnexpectedEOF)
		}
	}()
	h.ServeHTTP(w, r)
	return nil
}

// answerBody lets the handler know when the client has seen enough.
type answerBody struct {
	*io.PipeReader
	cancel context.CancelFunc
	ctx    context.Context // the client's
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.PipeReader.Read(p)
	if err != nil {
		b.cancel()
		if cerr := b.ctx.Err(); cerr != nil && err != io.EOF {
			err = cerr
		}
	}
	return n, err
}

func (b *answerBody) Close() error {
	err := b.PipeReader.Close()
	b.cancel()
	return err
}

type answerWriter struct {
	header  http.Header
	status  int
	left    int64 // of Content-Length, -1 if there is none
	buf     *bufio.Writer
	pipe    *io.PipeWriter
	body    *answerBody
	req     *http.Request
	resp    *http.Response
	once    sync.Once
	started chan struct{}
}

func (w *answerWriter) Header() http.Header { return w.header }

func (w *answerWriter) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	h := w.header.Clone()
	if h.Get("Date") == "" {
		h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(h.Get("Content-Length")), 10, 64); err == nil && n >= 0 {
		w.left = n
	}
	w.resp = &http.Response{
		Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: w.body, ContentLength: w.left, Request: w.req,
	}
}

func (w *answerWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.req.Method == http.MethodHead {
		return len(p), nil
	}
	if w.left >= 0 {
		if int64(len(p)) > w.left {
			return 0, http.ErrContentLength
		}
		w.left -= int64(len(p))
	}
	return w.buf.Write(p)
}

func (w *answerWriter) Flush() {
	w.WriteHeader(http.StatusOK)
	w.start()
	w.buf.Flush()
}

func (w *answerWriter) start() { w.once.Do(func() { close(w.started) }) }

// finish sends what is left when the handler has returned.
func (w *answerWriter) finish() error {
	w.Flush()
	if w.left > 0 && w.req.Method != http.MethodHead {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// startWriter is the far end of the buffer: the answer starts with its first byte.
type startWriter struct{ w *answerWriter }

func (s startWriter) Write(p []byte) (int, error) {
	s.w.start()
	return s.w.pipe.Write(p)
}
