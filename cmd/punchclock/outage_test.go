package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"punchclock/device"
	"punchclock/device/clock"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/sync/sandbox"
	"punchclock/ui"
	"punchclock/ui/kiosk"
)

// clouds routes the clock's calls to the sandboxes in memory, or nowhere.
type clouds struct {
	tc, fs http.RoundTripper
	cut    func(host string) bool
}

func (c *clouds) RoundTrip(r *http.Request) (*http.Response, error) {
	host := r.URL.Hostname()
	if c.cut(host) {
		return nil, fmt.Errorf("dial tcp: lookup %s: no route to host", host)
	}
	if host == "apis.104api.com.tw" {
		return c.tc.RoundTrip(r)
	}
	return c.fs.RoundTrip(r)
}

// virtual is a clock of the bubble: right from the start.
type virtual struct{ began time.Time }

func (v virtual) Now() punch.Stamp {
	return punch.Stamp{Wall: time.Now(), Uptime: time.Since(v.began), BootID: [16]byte{7}, Clock: punch.Synced, ErrorBound: time.Millisecond}
}

const outageConfig = `schema = 1
[device]
id = "tpe-1f-lobby"
state_dir = "state"
[kiosk]
listen = ""
[[reader]]
name = "front"
driver = "serial"
port = "/dev/null"
[[destination]]
name = "104"
driver = "transfercard"
client_id = "ID104"
client_secret_file = "104-secret"
batch = 20
[[destination]]
name = "feishu"
driver = "feishu"
app_id = "IDFS"
app_secret_file = "feishu-secret"
`

// A day without a network, with people coming and going, tokens that run out, a
// restart in the middle, and Feishu away for longer than 104: in virtual time,
// with the real outbox, the real clients and the real engine.
func TestDayOfOutageWithARestartInTheMiddleLosesAndDoublesNothing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 20, 23, 0, 0, 0, time.UTC))) // 07:00 in Taipei
		crowd := people(20)
		var known []sandbox.Person
		for _, p := range crowd {
			known = append(known, sandbox.People(p.number)...)
		}
		tc := sandbox.NewTransferCard(sandbox.TransferCardConfig{People: known})
		fs := sandbox.NewFeishu(sandbox.FeishuConfig{People: known})
		id104, secret104 := tc.Credentials()
		idFS, secretFS := fs.Credentials()
		h := &house{t: t, dir: dir}
		if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
			t.Fatal(err)
		}
		h.write("104-secret", secret104)
		h.write("feishu-secret", secretFS)
		path := h.write("punchclock.toml", strings.NewReplacer("ID104", id104, "IDFS", idFS).Replace(outageConfig))
		cfg, err := loadConfig(path, built())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		net := &clouds{tc: sandbox.Transport(tc), fs: sandbox.Transport(fs)}
		net.cut = func(host string) bool {
			d := time.Since(began)
			if host == "open.feishu.cn" {
				return d > 30*time.Minute && d < 34*time.Hour
			}
			return d > 30*time.Minute && d < 24*time.Hour+30*time.Minute
		}

		var answers []ui.Result
		life := func(visits func(tap func(person))) {
			c := &clockwork{cfg: cfg, log: slog.New(slog.DiscardHandler), metrics: newMetrics(), network: net}
			if c.clock, err = clock.New(clock.Config{Trust: clock.System}); err != nil {
				t.Fatal(err)
			}
			people := &directory{}
			if c.outbox, err = openOutbox(cfg, c.log, func() punch.Stamp { return punch.Stamp{BootID: [16]byte{7}} }, people); err != nil {
				t.Fatal(err)
			}
			defer c.outbox.Close()
			if c.roster, err = openRoster(cfg, c.log, nil); err != nil {
				t.Fatal(err)
			}
			defer c.roster.Close()
			people.set(c.roster)
			var rows []*roster.Row
			for _, p := range crowd {
				rows = append(rows, &roster.Row{Employee: punch.Employee{Number: p.number, Name: p.name, Badges: []punch.Badge{punch.Badge(p.badge())}, Active: true}})
			}
			if _, err := c.roster.Replace(rows); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var g errgroup.Group
			g.Go(func() error { return c.outbox.Run(ctx) })
			for _, d := range cfg.Destinations {
				w := c.newWorker(d)
				g.Go(func() error { return w.Run(ctx) })
			}
			events := make(chan device.Event)
			got := make(chan ui.Result, 16)
			k := kiosk.New(kiosk.Config{Location: cfg.Device.Timezone, DuplicateWindow: time.Minute, KindTimeout: 10 * time.Second},
				kiosk.Parts{Recorder: c.outbox, Directory: c.roster, Clock: virtual{began}, Results: func(r ui.Result) { got <- r }})
			recent, err := c.outbox.Tail(100)
			if err != nil {
				t.Fatal(err)
			}
			k.Seed(recent)
			g.Go(func() error { return k.Run(ctx, events) })
			visits(func(p person) {
				events <- device.Event{Reader: "front", What: device.Card, Medium: "em", Value: strings.TrimPrefix(p.badge(), "em:"),
					Raw: p.card[:], Bits: 40, First: time.Now(), Last: time.Now()}
				r := <-got
				if r.Outcome != "stored" {
					t.Errorf("%s: %+v", p.number, r)
				}
				answers = append(answers, r)
			})
			cancel()
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
		}
		wave := func(tap func(person)) {
			for _, p := range crowd {
				tap(p)
				time.Sleep(7 * time.Second)
			}
		}
		life(func(tap func(person)) {
			wave(tap) // 上班, online
			time.Sleep(4 * time.Hour)
			wave(tap) // 下班, offline
			time.Sleep(6 * time.Hour)
		})
		time.Sleep(time.Hour) // off for an hour
		life(func(tap func(person)) {
			wave(tap) // 上班 again, still offline
			time.Sleep(30 * time.Hour)
			tc.Revoke()
			fs.Revoke()
			wave(tap)
			time.Sleep(time.Hour)
		})

		if len(answers) != 80 {
			t.Fatalf("%d answers", len(answers))
		}
		cards, flows := tc.Ledger(), fs.Ledger()
		if len(cards) != 80 || len(flows) != 80 || len(tc.Repeats())+len(fs.Repeats()) > 0 {
			t.Fatalf("104 has %d and %d twice, Feishu has %d and %d twice", len(cards), len(tc.Repeats()), len(flows), len(fs.Repeats()))
		}
		for i, r := range answers {
			want := fmt.Sprintf(`{"empNo":%q,"cardTime":%d}`, r.Employee, r.Time.UnixMilli())
			if string(cards[i].Raw) != want {
				t.Errorf("104's number %d is %s, want %s", i, cards[i].Raw, want)
			}
			k, _ := punch.ParseKind(r.Kind)
			if f := flows[i].Flow; f.IdempotentID != r.PunchID || f.CheckTime != fmt.Sprint(r.Time.Unix()) || f.UserID != r.Employee || f.Comment != k.Chinese() {
				t.Errorf("Feishu's number %d is %s, want %+v", i, flows[i].Raw, r)
			}
		}
		if a := answers[0]; a.Kind != "in" || answers[20].Kind != "out" || answers[40].Kind != "in" {
			t.Errorf("kinds %s %s %s", a.Kind, answers[20].Kind, answers[40].Kind)
		}
		if c := tc.Counters(); c.WorstSecond > 25 || c.TokensIssued < 2 || c.TokenCalls > 10 {
			t.Errorf("104: %+v", c)
		}
		if c := fs.Counters(); c.WorstSecond > 10 || c.TokenCalls > 10 {
			t.Errorf("Feishu: %+v", c)
		}
	})
}
