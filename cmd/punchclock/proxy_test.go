package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A site whose only way out is a proxy: what the proxy does wrong is told as the
// proxy's, and what is put right needs no restart.
func TestPunchesGoThroughTheProxyOnceItsLoginIsRight(t *testing.T) {
	var passed atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth()
		if user != "bob" || password != "right:one" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		passed.Add(1)
		r.RequestURI = ""
		r.Header.Del("Proxy-Authorization")
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	defer proxy.Close()
	h := newHouse(t, settings{})
	h.write("proxy-login", "bob:wrong\n")
	right := strings.Replace(h.text(), "batch = 50", fmt.Sprintf("batch = 50\nproxy = %q\nproxy_login_file = \"proxy-login\"", proxy.URL), 1)
	h.write("punchclock.toml", strings.Replace(right, proxy.URL, "http://127.0.0.1:1", 1))
	h.openClouds()
	h.start()
	h.tap(h.people[0])
	says := func(state, words string) func() bool {
		return func() bool {
			d := h.status().Destinations
			return d[0].State == state && strings.Contains(d[0].LastError, words) && d[1].Pending == 0
		}
	}
	h.until(10*time.Second, "the proxy is down", says("retrying", "the proxy: connection refused"))
	h.write("punchclock.toml", right)
	h.hup()
	h.until(10*time.Second, "the proxy wants another login", says("misconfigured", "put user:password of an account of the proxy into proxy_login_file"))
	h.write("proxy-login", "bob:right:one\n")
	h.delivered(20 * time.Second)
	if n := len(h.tc.Ledger()); n != 1 || passed.Load() < 2 {
		t.Errorf("%d punches, %d calls through the proxy", n, passed.Load())
	}
	h.stop()
}
