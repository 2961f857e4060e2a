package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The page is frozen (streams that nobody reads), flooded with requests, and asked for
// more streams than there are: a tap is answered as if there were no page.
func TestFloodedPageChangesNothingForTheTap(t *testing.T) {
	h := newHouse(t, settings{people: 60, window: "0s"})
	h.start()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	median := func() time.Duration {
		var took []time.Duration
		for i := range 40 {
			begin := time.Now()
			if r := h.tap(h.people[i]); r.Outcome != "stored" {
				t.Fatalf("%+v", r)
			}
			took = append(took, time.Since(begin))
			time.Sleep(5 * time.Millisecond)
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
	quiet := median()

	stop := make(chan struct{})
	var flood sync.WaitGroup
	var asked [4]int
	for n, ask := range []func() (*http.Response, error){
		func() (*http.Response, error) { return client.Get("http://" + h.page + "/") },
		func() (*http.Response, error) { return client.Get("http://" + h.page + "/status") },
		func() (*http.Response, error) {
			return client.Post("http://"+h.page+"/api/correct", "application/json", strings.NewReader(`{"punch_id":"x","kind":"out"}`))
		},
		func() (*http.Response, error) { return client.Get("http://" + h.page + "/events") },
	} {
		flood.Go(func() {
			var frozen []io.Closer
			for {
				select {
				case <-stop:
					for _, c := range frozen {
						c.Close()
					}
					return
				default:
				}
				if resp, err := ask(); err == nil {
					asked[n]++
					if resp.StatusCode == http.StatusOK && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
						frozen = append(frozen, resp.Body) // and never read
						continue
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	busy := median()
	close(stop)
	flood.Wait()
	t.Logf("a tap is answered in %v, flooded with %v requests in %v", quiet, asked, busy)
	if busy > quiet+250*time.Millisecond {
		t.Errorf("the flood holds up a tap: %v instead of %v", busy, quiet)
	}
	if slices.Contains(asked[:], 0) {
		t.Errorf("there was no flood: %v", asked)
	}
	resp, err := client.Get("http://" + h.page + "/readyz")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %v %v", fmt.Sprint(resp), err)
	}
	h.stop()
}
