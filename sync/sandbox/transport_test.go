package sandbox

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// both runs a test over a real socket and in memory: the two must not differ.
func both(t *testing.T, h http.HandlerFunc, test func(t *testing.T, get func(ctx context.Context) (*http.Response, error))) {
	run := func(name, url string, rt http.RoundTripper) {
		t.Run(name, func(t *testing.T) {
			test(t, func(ctx context.Context) (*http.Response, error) {
				req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader("hello"))
				if err != nil {
					t.Fatal(err)
				}
				return (&http.Client{Transport: rt}).Do(req)
			})
		})
	}
	server := httptest.NewServer(h)
	defer server.Close()
	run("socket", server.URL, nil)
	run("memory", "http://cloud.test", Transport(h))
}

func TestTransportCarriesWhatASocketCarries(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || string(b) != "hello" || r.ContentLength != 5 || r.RequestURI != "/" || r.Host == "" || r.RemoteAddr == "" {
			t.Errorf("request %q %v %+v", b, err, r)
		}
		w.Header().Set("X-A", "b")
		w.WriteHeader(201)
		w.Header().Set("X-Late", "no")
		w.Write([]byte("there"))
	}, func(t *testing.T, get func(context.Context) (*http.Response, error)) {
		resp, err := get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || string(b) != "there" || resp.StatusCode != 201 || resp.Header.Get("X-A") != "b" || resp.Header.Get("X-Late") != "" || resp.Header.Get("Date") == "" {
			t.Errorf("answer %q %v %+v", b, err, resp)
		}
	})
}

func TestTransportTurnsAnAbortIntoALostConnection(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("never sent"))
		panic(http.ErrAbortHandler)
	}, func(t *testing.T, get func(context.Context) (*http.Response, error)) {
		resp, err := get(t.Context())
		if err == nil {
			resp.Body.Close()
			t.Fatalf("answered %d", resp.StatusCode)
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v", err)
		}
	})
}

func TestTransportCutsABody(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"abort": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			w.Write([]byte("half"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"short": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			w.Write([]byte("half"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, h, func(t *testing.T, get func(context.Context) (*http.Response, error)) {
				resp, err := get(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if !errors.Is(err, io.ErrUnexpectedEOF) || string(b) != "half" || resp.ContentLength != 10 {
					t.Errorf("%q %v", b, err)
				}
			})
		})
	}
}

func TestTransportHonoursTheContext(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // a server notices that a client left only then
		<-r.Context().Done()
	}, func(t *testing.T, get func(context.Context) (*http.Response, error)) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		resp, err := get(ctx)
		if err == nil {
			resp.Body.Close()
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestTransportHonoursTheContextInTheBody(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write([]byte("half"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}, func(t *testing.T, get func(context.Context) (*http.Response, error)) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		resp, err := get(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); !errors.Is(err, context.DeadlineExceeded) || string(b) != "half" {
			t.Errorf("%q %v", b, err)
		}
	})
}

func TestHandlerLearnsThatTheClientClosedTheBody(t *testing.T) {
	left := make(chan struct{}, 2)
	both(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		left <- struct{}{}
	}, func(t *testing.T, get func(context.Context) (*http.Response, error)) {
		resp, err := get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		<-left
	})
}

func TestClientTimeoutWorksOnTheVirtualClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new104(t)
		c.login()
		c.SetFaults(func(f *TransferCardFaults) { f.DelayMS = 60_000 })
		start := time.Now()
		client := http.Client{Transport: Transport(c), Timeout: 10 * time.Second}
		req, err := http.NewRequest("POST", "http://cloud.test"+TransferCardPath, strings.NewReader(punches("A0001", someTime, 1)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", c.bearer)
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			t.Fatal("answered")
		}
		if time.Since(start) != 10*time.Second || len(c.Ledger()) != 1 {
			t.Errorf("%v after %v, %d stored", err, time.Since(start), len(c.Ledger()))
		}
	})
}

func TestFaultsOfTheWireAreTheSameOverASocket(t *testing.T) {
	c := new104(t)
	server := httptest.NewServer(c)
	defer server.Close()
	c.login()
	post := func() (string, error) {
		req, err := http.NewRequest("POST", server.URL+TransferCardPath, strings.NewReader(punches("A0001", someTime, 1)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", c.bearer)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	c.SetFaults(func(f *TransferCardFaults) { f.CommitThenDrop = 1 })
	if b, err := post(); err == nil || len(c.Ledger()) != 1 {
		t.Errorf("commit, then drop: %q", b)
	}
	c.SetFaults(func(f *TransferCardFaults) { f.CutNext = 1 })
	if b, err := post(); !errors.Is(err, io.ErrUnexpectedEOF) || b == "" {
		t.Errorf("cut: %q %v", b, err)
	}
	c.SetFaults(func(f *TransferCardFaults) { f.SlowBodyMS = 80 })
	start := time.Now()
	if b, err := post(); err != nil || !strings.Contains(b, `"success":1`) || time.Since(start) < 80*time.Millisecond {
		t.Errorf("slow body: %q %v after %v", b, err, time.Since(start))
	}
}
