package web

import (
	"context"
	"net/http"
	"sync"
	"time"
)

const (
	readTimeout  = 15 * time.Second // a whole request, which is at most 4 KB
	writeTimeout = 10 * time.Second // an answer, or one write to an event stream
)

// stopping is the key under which a request finds the channel that is closed
// when its server shuts down.
type stopping struct{}

// NewHTTPServer returns a server for h with the limits that suit it: 5 seconds
// for a header, 15 for a request, 16 KB of header, a minute of idling. There is
// no write timeout, since an event stream has no end; the handler limits every
// write by itself. Shutdown ends the event streams of h and lets other requests
// finish. Nothing listens yet; the caller may set ErrorLog.
func NewHTTPServer(h http.Handler) *http.Server {
	stop := make(chan struct{})
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), stopping{}, (<-chan struct{})(stop))))
	})
	srv := &http.Server{
		Handler:           inner,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       readTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       withConnection,
	}
	srv.RegisterOnShutdown(sync.OnceFunc(func() { close(stop) }))
	return srv
}
