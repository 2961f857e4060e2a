package transfercard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"punchclock/queue/punch"
	"punchclock/sync/drain"
	"punchclock/sync/drain/draintest"
	"punchclock/sync/sandbox"
	"punchclock/sync/token"
)

// desk is a client and a 104 on one desk, without a network.
type desk struct {
	t       *testing.T
	cloud   *sandbox.TransferCard
	client  *Client
	secret  string
	secrets error
	logs    bytes.Buffer
	tokens  []string // what TokenObserve heard
	bodies  [][]byte // of the calls with punches
	heads   []http.Header
	tokenRq []string // of the token calls: Authorization and body
}

// onDesk runs a test in a bubble. change may be nil.
func onDesk(t *testing.T, change func(*Config), test func(*desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &desk{t: t, cloud: sandbox.NewTransferCard(sandbox.TransferCardConfig{
			ClientID: "clock-1", ClientSecret: "s3cret-of-104",
			People: sandbox.People("A0001", "000123", "119008", "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8"),
		})}
		_, d.secret = d.cloud.Credentials()
		d.client = d.open(d.cloud, change)
		test(d)
	})
}

func (d *desk) open(h http.Handler, change func(*Config)) *Client {
	d.t.Helper()
	hc, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(25), Transport: tap{d, sandbox.Transport(h)}})
	if err != nil {
		d.t.Fatal(err)
	}
	cfg := Config{
		APIBase: "https://104.invalid" + sandbox.TransferCardBase, TokenURL: "https://104.invalid" + sandbox.TransferCardTokenPath,
		ClientID: "clock-1", Secret: func() (string, error) { return d.secret, d.secrets },
		HTTP: hc, Log: slog.New(slog.NewTextHandler(&d.logs, nil)),
		TokenObserve: func(r string) { d.tokens = append(d.tokens, r) },
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// tap keeps what goes over the wire.
type tap struct {
	d    *desk
	next http.RoundTripper
}

func (t tap) RoundTrip(r *http.Request) (*http.Response, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body.Close()
	r.Body = io.NopCloser(bytes.NewReader(b))
	if r.URL.Path == sandbox.TransferCardTokenPath {
		t.d.tokenRq = append(t.d.tokenRq, r.Header.Get("Authorization")+"|"+string(b))
	} else {
		t.d.bodies = append(t.d.bodies, b)
		t.d.heads = append(t.d.heads, r.Header)
	}
	return t.next.RoundTrip(r)
}

func (d *desk) faults(f func(*sandbox.TransferCardFaults)) { d.cloud.SetFaults(f) }

var begin = time.Date(2025, 12, 23, 8, 0, 0, 987_654_321, time.FixedZone("", 8*3600))

// send offers a batch and writes what came of it as "accept accept refuse:reason -",
// a dash for a punch without a verdict.
func (d *desk) send(ps []punch.Punch) (string, error) {
	d.t.Helper()
	vs, err := d.client.Send(context.Background(), ps)
	if err != nil {
		for _, bad := range []string{d.secret, "at-", "Bearer", "Basic"} {
			if strings.Contains(err.Error(), bad) {
				d.t.Errorf("an error holds %q: %v", bad, err)
			}
		}
	}
	return draintest.Fates(d.t, ps, vs), err
}

func (d *desk) want(ps []punch.Punch, want string) {
	d.t.Helper()
	got, err := d.send(ps)
	if got != want || err != nil {
		d.t.Fatalf("got %q, %v; want %q without an error", got, err, want)
	}
}

func (d *desk) ledger() string {
	var out []string
	for _, r := range d.cloud.Ledger() {
		out = append(out, r.EmpNo)
	}
	return strings.Join(out, " ")
}

func TestNumbersGoOutAsTextAndTimesInMilliseconds(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		ps := draintest.Numbered(begin, "A0001", "000123")
		ps[0].Stamp.Wall = time.UnixMilli(1566349095938)
		ps[1].Corrected = time.Date(2025, 12, 23, 8, 0, 0, 999_999, time.FixedZone("", 8*3600))
		d.want(ps, "accept accept")
		const want = `[{"empNo":"A0001","cardTime":1566349095938},{"empNo":"000123","cardTime":1766448000000}]`
		if got := string(d.bodies[0]); got != want {
			t.Errorf("body\n%s, want\n%s", got, want)
		}
		h := d.heads[0]
		if h.Get("Content-Type") != "application/json" || h.Get("Accept") != "application/json" || !strings.HasPrefix(h.Get("Authorization"), "Bearer at-") {
			t.Errorf("headers %v", h)
		}
		const basic = "Basic Y2xvY2stMTpzM2NyZXQtb2YtMTA0|grant_type=client_credentials&scope=prohrm"
		if !slices.Equal(d.tokenRq, []string{basic}) {
			t.Errorf("token calls %q, want %q", d.tokenRq, basic)
		}
		if !slices.Equal(d.tokens, []string{"ok"}) {
			t.Errorf("token refreshes %q, want one ok", d.tokens)
		}
	})
}

func TestAResendIsByteForByteTheSame(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		ps := draintest.Numbered(begin, "A0001", "000123", "119008")
		d.faults(func(f *sandbox.TransferCardFaults) { f.CommitThenDrop = 1; f.CutNext = 1 })
		for range 2 {
			if got, err := d.send(ps); got != "- - -" || draintest.KindOf(err) != "outage" {
				t.Fatalf("lost answer: %q, %v", got, err)
			}
		}
		d.want(ps, "accept accept accept")
		if len(d.bodies) != 3 || !bytes.Equal(d.bodies[0], d.bodies[1]) || !bytes.Equal(d.bodies[0], d.bodies[2]) {
			t.Errorf("resends differ: %q", d.bodies)
		}
		if d.ledger() != "A0001 000123 119008" {
			t.Errorf("ledger %q", d.ledger())
		}
	})
}

func TestCredentialsInTheBodyWhereConfigured(t *testing.T) {
	onDesk(t, func(c *Config) { c.Auth = Body }, func(d *desk) {
		d.want(draintest.Numbered(begin, "A0001"), "accept")
		const want = "|client_id=clock-1&client_secret=s3cret-of-104&grant_type=client_credentials&scope=prohrm"
		if !slices.Equal(d.tokenRq, []string{want}) {
			t.Errorf("token calls %q, want %q", d.tokenRq, want)
		}
	})
}

func TestNumbersArePaddedOnlyWhereConfigured(t *testing.T) {
	onDesk(t, func(c *Config) { c.EmpNoPad = 6 }, func(d *desk) {
		d.want(draintest.Numbered(begin, "123", "A0001", "119008"), "accept accept accept")
		if d.ledger() != "000123 A0001 119008" {
			t.Errorf("ledger %q", d.ledger())
		}
	})
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "123", "000123"), "refuse:emp_no_unknown accept")
	})
}

func TestWhatCannotBeSentIsRefusedBeforeSending(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		ps := draintest.Numbered(begin, "A0001", "", " \t", "P\xff1", "P1", "P2", "P3")
		ps[4].Stamp.Wall = time.Date(1970, 1, 1, 0, 5, 0, 0, time.UTC)
		ps[5].Stamp.Wall = time.UnixMilli(1_499_999_999_999)
		ps[6].Stamp.Wall = time.UnixMilli(10_000_000_000_000)
		d.want(ps, "accept refuse:emp_no_blank refuse:emp_no_blank refuse:emp_no_invalid refuse:bad_time refuse:bad_time refuse:bad_time")
		if d.ledger() != "A0001" {
			t.Errorf("ledger %q", d.ledger())
		}
		// Nothing that may be sent: no call, and never an empty one.
		calls := len(d.cloud.Calls())
		d.want(ps[1:], "refuse:emp_no_blank refuse:emp_no_blank refuse:emp_no_invalid refuse:bad_time refuse:bad_time refuse:bad_time")
		if n := len(d.cloud.Calls()); n != calls {
			t.Errorf("%d calls for nothing", n-calls)
		}
		p := draintest.Numbered(begin, "P1")
		p[0].Stamp.Wall = time.UnixMilli(1_500_000_000_000)
		d.want(p, "accept")
	})
}

// Section 4.3 and 6: one row per text and base.
func TestEachRecordsTextDecides(t *testing.T) {
	for _, base := range []int{0, 1} {
		for _, c := range []struct{ list, text, want string }{
			{"ignore", "員工編號空白", "refuse:emp_no_blank"},
			{"ignore", "  員工編號空白。", "refuse:emp_no_blank"},
			{"fail", "員工編號不存在", "refuse:emp_no_unknown"},
			{"ignore", "打卡資料重複", "accept"},
			{"fail", "打卡資料重複", "accept"},
			{"ignore", "員工編號不存在", "refuse:ignored_by_104"},
			{"ignore", "已離職", "refuse:ignored_by_104"},
			{"fail", "員工編號空白", "refuse:rejected_by_104"},
			{"fail", "已離職", "refuse:rejected_by_104"},
		} {
			for _, n := range []int{1, 3} {
				t.Run(fmt.Sprintf("base %d %s %s of %d", base, c.list, c.text, n), func(t *testing.T) {
					onDesk(t, nil, func(d *desk) {
						d.faults(func(f *sandbox.TransferCardFaults) {
							f.IdxBase = base
							texts := map[string]string{"P2": c.text}
							if c.list == "fail" {
								f.FailText = texts
							} else {
								f.IgnoreText = texts
							}
						})
						if n == 1 {
							d.want(draintest.Numbered(begin, "P2"), c.want)
						} else {
							d.want(draintest.Numbered(begin, "P1", "P2", "P3"), "accept "+c.want+" accept")
						}
					})
				})
			}
		}
	}
}

func TestTheFarSidesWordsAreKeptShortAndWhole(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.TransferCardFaults) {
			f.FailText = map[string]string{"P1": strings.Repeat("拒", 200) + "\n", "P2": " 一\r\n二 "}
		})
		vs, err := d.client.Send(context.Background(), draintest.Numbered(begin, "P1", "P2"))
		if err != nil || len(vs) != 2 {
			t.Fatal(vs, err)
		}
		if vs[0].Message != strings.Repeat("拒", 85) {
			t.Errorf("message of %d bytes %q, want 85 whole characters", len(vs[0].Message), vs[0].Message)
		}
		if vs[1].Message != "一  二" {
			t.Errorf("message %q", vs[1].Message)
		}
	})
}

// calls counts the calls with punches.
func (d *desk) calls() int { return len(d.bodies) }

func TestIdxBaseIsLearnedNeverGuessed(t *testing.T) {
	for _, base := range []int{0, 1} {
		t.Run(fmt.Sprint("base ", base), func(t *testing.T) {
			onDesk(t, nil, func(d *desk) {
				d.faults(func(f *sandbox.TransferCardFaults) { f.IdxBase = base; f.Duplicates = sandbox.DuplicatesIgnore })
				// The bad one is in the middle: idx 1 or 2 of 3 proves nothing. One by one,
				// the good ones come back as duplicates, and that is delivered.
				d.want(draintest.Numbered(begin, "P1", "X", "P3"), "accept refuse:emp_no_unknown accept")
				if d.calls() != 4 {
					t.Errorf("%d calls, want the batch and three single ones", d.calls())
				}
				// The single reply proved the base: the next batch needs one call.
				ps := draintest.Numbered(begin, "P4", "P5", "X", "P6", "P7")
				d.want(ps, "accept accept refuse:emp_no_unknown accept accept")
				if d.calls() != 5 {
					t.Errorf("%d calls, want the base to be remembered", d.calls())
				}
				if d.ledger() != "P1 P3 P4 P5 P6 P7" {
					t.Errorf("ledger %q", d.ledger())
				}
			})
			// At an end of the batch the idx itself proves the base.
			onDesk(t, nil, func(d *desk) {
				d.faults(func(f *sandbox.TransferCardFaults) { f.IdxBase = base })
				ps := draintest.Numbered(begin, "X", "P1", "P2")
				if base == 1 {
					ps = draintest.Numbered(begin, "P1", "P2", "X")
				}
				want := []string{"refuse:emp_no_unknown accept accept", "accept accept refuse:emp_no_unknown"}[base]
				d.want(ps, want)
				d.want(draintest.Numbered(begin, "P3", "X", "P4"), "accept refuse:emp_no_unknown accept")
				if d.calls() != 2 {
					t.Errorf("%d calls, want 2", d.calls())
				}
			})
			// A configured base needs no proof.
			onDesk(t, func(c *Config) { c.IdxBase = IdxBase(fmt.Sprint(base)) }, func(d *desk) {
				d.faults(func(f *sandbox.TransferCardFaults) { f.IdxBase = base })
				d.want(draintest.Numbered(begin, "P1", "X", "P3"), "accept refuse:emp_no_unknown accept")
				if d.calls() != 1 {
					t.Errorf("%d calls, want 1", d.calls())
				}
			})
		})
	}
}

func TestABaseThatTurnsOutWrongIsUnlearned(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "X", "P1"), "refuse:emp_no_unknown accept") // base 0
		d.faults(func(f *sandbox.TransferCardFaults) { f.IdxBase = 1 })
		d.want(draintest.Numbered(begin, "P2", "P3", "X"), "accept accept refuse:emp_no_unknown")
		if d.calls() != 5 {
			t.Errorf("%d calls, want the contradiction sent one by one", d.calls())
		}
		d.want(draintest.Numbered(begin, "P4", "X", "P5"), "accept refuse:emp_no_unknown accept")
		if d.calls() != 6 {
			t.Errorf("%d calls, want the new base remembered", d.calls())
		}
	})
}

func TestAConfiguredBaseStaysAndAContradictionIsNotBelieved(t *testing.T) {
	onDesk(t, func(c *Config) { c.IdxBase = Zero }, func(d *desk) {
		d.faults(func(f *sandbox.TransferCardFaults) { f.IdxBase = 1 })
		for range 2 {
			d.want(draintest.Numbered(begin, "P1", "P2", "X"), "accept accept refuse:emp_no_unknown")
		}
		if d.calls() != 8 || d.client.base != 0 {
			t.Errorf("%d calls, base %d", d.calls(), d.client.base)
		}
	})
}

func TestFewerDetailsThanCountsAreNotGuessedAt(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(*sandbox.TransferCardFaults)
	}{
		{"one detail each", func(f *sandbox.TransferCardFaults) { f.Details = sandbox.DetailsOne }},
		{"a success too few", func(f *sandbox.TransferCardFaults) { f.Miscount = 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			onDesk(t, func(cfg *Config) { cfg.IdxBase = Zero }, func(d *desk) {
				d.faults(c.fault)
				ps := draintest.Numbered(begin, "X", "P1", "Y", "P2")
				vs, err := d.client.Send(context.Background(), ps)
				if c.name == "one detail each" {
					if got := draintest.Fates(t, ps, vs); got != "refuse:emp_no_unknown accept refuse:emp_no_unknown accept" || err != nil {
						t.Fatalf("%q, %v", got, err)
					}
					for _, v := range vs {
						if !v.Resent {
							t.Errorf("punch %s went out twice, and the verdict does not say so", v.ID)
						}
					}
				} else if got := draintest.Fates(t, ps, vs); got != "refuse:emp_no_unknown - refuse:emp_no_unknown -" || draintest.KindOf(err) != "outage" {
					t.Fatalf("%q, %v", got, err)
				}
				if d.calls() != 5 {
					t.Errorf("%d calls, want the batch and four single ones", d.calls())
				}
			})
		})
	}
}

// A reply that takes all and names one as refused says two things at once.
func TestAContradictionIsNeverDelivered(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		body := `{"success":1,"ignore":0,"fail":0,"failDetail":[{"idx":1,"errorMsg":"員工編號不存在"}]}`
		d.client.cfg.HTTP.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			text := body
			if r.URL.Path == sandbox.TransferCardTokenPath {
				text = `{"access_token":"t"}`
			}
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
		})
		for range 4 {
			if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "outage" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		d.want(draintest.Numbered(begin, "P1"), "refuse:unclear_from_104")
	})
}

func TestARecordThatIsNeverClearlyAnsweredIsParkedAfterFiveTries(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.TransferCardFaults) { f.Miscount = 1 })
		for range 4 {
			if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "outage" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		d.want(draintest.Numbered(begin, "P1"), "refuse:unclear_from_104")
		if len(d.client.unclear) != 0 {
			t.Errorf("its tries are remembered after it was settled")
		}
	})
}

func TestEmptyDetailsMayBeMissingOrNull(t *testing.T) {
	for _, how := range []string{sandbox.EmptyList, sandbox.EmptyNull, sandbox.EmptyMissing} {
		onDesk(t, nil, func(d *desk) {
			d.faults(func(f *sandbox.TransferCardFaults) { f.EmptyDetails = how })
			d.want(draintest.Numbered(begin, "P1", "P2"), "accept accept")
			d.want(draintest.Numbered(begin, "X", "P4"), "refuse:emp_no_unknown accept")
		})
	}
}

func TestStatus200ThatIsNot104IsAnOutage(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		for name, fault := range map[string]func(*sandbox.TransferCardFaults){
			"html":        func(f *sandbox.TransferCardFaults) { f.HTMLNext = -1; f.FailOn = sandbox.OnBusiness },
			"wrong types": func(f *sandbox.TransferCardFaults) { f.WrongTypes = true },
		} {
			d.cloud.Reset()
			d.client.Reset()
			d.faults(fault)
			for _, ps := range [][]punch.Punch{draintest.Numbered(begin, "P1"), draintest.Numbered(begin, "P1", "P2")} {
				if got, err := d.send(ps); strings.Trim(got, "- ") != "" || draintest.KindOf(err) != "outage" {
					t.Errorf("%s: %q, %v; want every punch kept", name, got, err)
				}
			}
		}
	})
}

// Section 7, where the status says all: one row per status.
func TestEveryStatusHasItsMeaning(t *testing.T) {
	for _, c := range []struct {
		status     int
		retryAfter string
		want       string
		calls      int
	}{
		{403, "", "denied:auth_failed", 1},
		{404, "", "denied:misconfigured", 1},
		{405, "", "denied:misconfigured", 1},
		{408, "", "busy:0s", 1},
		{425, "3", "busy:3s", 1},
		{429, "7", "busy:7s", 1},
		{429, "86400", "busy:10m0s", 1},
		{429, "Sat, 01 Jan 2000 00:00:31 GMT", "busy:30s", 1},
		{429, "soon", "busy:0s", 1},
		{500, "", "outage", 1},
		{502, "", "outage", 1},
		{503, "120", "outage", 1},
		{504, "", "outage", 1},
		{511, "", "outage", 1},
		{301, "", "outage", 1},
		{302, "", "outage", 1},
		{303, "", "outage", 1},
		{307, "", "outage", 1},
		{308, "", "outage", 1},
		{401, "", "denied:auth_failed", 2},
		{402, "", "outage", 1},
		{409, "", "outage", 1},
		{422, "", "outage", 1},
	} {
		t.Run(fmt.Sprint(c.status, " ", c.retryAfter), func(t *testing.T) {
			onDesk(t, nil, func(d *desk) {
				d.faults(func(f *sandbox.TransferCardFaults) {
					f.FailNext, f.FailStatus, f.FailOn, f.RetryAfter = -1, c.status, sandbox.OnBusiness, c.retryAfter
				})
				got, err := d.send(draintest.Numbered(begin, "P1", "P2", "P3"))
				if got != "- - -" || draintest.KindOf(err) != c.want {
					t.Errorf("%q, %v (%s); want every punch kept and %s", got, err, draintest.KindOf(err), c.want)
				}
				if d.calls() != c.calls {
					t.Errorf("%d calls, want %d", d.calls(), c.calls)
				}
				d.faults(func(f *sandbox.TransferCardFaults) { f.FailNext = 0 })
				d.client.Reset()
				d.want(draintest.Numbered(begin, "P1", "P2", "P3"), "accept accept accept")
			})
		})
	}
}

func TestABusinessErrorIsSplitUntilTheBadRecordStandsAlone(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.TransferCardFaults) {
			f.Poison = map[string]sandbox.Refusal{"P3": {Code: 412, Msg: "資料錯誤"}}
		})
		ps := draintest.Numbered(begin, "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8")
		vs, err := d.client.Send(context.Background(), ps)
		if got := draintest.Fates(t, ps, vs); got != "accept accept refuse:http400 accept accept accept accept accept" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		for _, v := range vs {
			if v.Fate == punch.Refuse && v.Message != "412 資料錯誤" {
				t.Errorf("message %q", v.Message)
			}
		}
		if d.ledger() != "P1 P2 P4 P5 P6 P7 P8" || d.calls() != 7 {
			t.Errorf("ledger %q after %d calls", d.ledger(), d.calls())
		}
	})
}

func TestA400WithACompanyCodeCallsAPerson(t *testing.T) {
	for _, code := range []int{490, 491} {
		onDesk(t, nil, func(d *desk) {
			d.faults(func(f *sandbox.TransferCardFaults) {
				f.Poison = map[string]sandbox.Refusal{"P1": {Code: code, Msg: "…"}}
			})
			for _, ps := range [][]punch.Punch{draintest.Numbered(begin, "P1"), draintest.Numbered(begin, "P1", "P2")} {
				if got, err := d.send(ps); strings.Trim(got, "- ") != "" || draintest.KindOf(err) != "denied:auth_failed" {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
}

func TestAWebPageWith400ParksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{t: t, secret: "s"}
		d.client = d.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == sandbox.TransferCardTokenPath {
				io.WriteString(w, `{"access_token":"at"}`)
				return
			}
			w.WriteHeader(400)
			io.WriteString(w, "\n<html>Bad Request</html>")
		}), nil)
		got, err := d.client.Send(context.Background(), draintest.Numbered(begin, "P1"))
		if len(got) != 0 || draintest.KindOf(err) != "outage" {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestARefusedTokenIsReplacedAndTheCallSentAgainOnce(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1"), "accept")
		d.cloud.Revoke()
		d.want(draintest.Numbered(begin, "P2", "P3"), "accept accept")
		if d.calls() != 3 || len(d.tokenRq) != 2 || !bytes.Equal(d.bodies[1], d.bodies[2]) {
			t.Errorf("%d calls, %d token calls", d.calls(), len(d.tokenRq))
		}
		d.faults(func(f *sandbox.TransferCardFaults) { f.RefuseTokens = true })
		time.Sleep(2 * time.Minute)
		if got, err := d.send(draintest.Numbered(begin, "P4")); got != "-" || draintest.KindOf(err) != "denied:auth_failed" {
			t.Errorf("%q, %v", got, err)
		}
		if d.calls() != 5 {
			t.Errorf("%d calls, want one resend only", d.calls()-3)
		}
	})
}

func TestA413HalvesTheCallsAndIsRemembered(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.TransferCardFaults) { f.MaxBatch, f.MaxBatchStatus = 2, 413 })
		ps := draintest.Numbered(begin, "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8")
		d.want(ps, "accept accept accept accept accept accept accept accept")
		if d.calls() != 2+4 { // 8, 4, then four of 2
			t.Errorf("%d calls", d.calls())
		}
		d.want(ps, "accept accept accept accept accept accept accept accept")
		if d.calls() != 2+4+4 {
			t.Errorf("%d calls, want the size to be remembered", d.calls())
		}
		d.faults(func(f *sandbox.TransferCardFaults) { f.FailNext, f.FailStatus, f.FailOn = -1, 413, sandbox.OnBusiness })
		if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "denied:misconfigured" {
			t.Errorf("one punch is too large: %q, %v", got, err)
		}
	})
}

func TestTooManyRecordsWith400AllArrive(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.TransferCardFaults) { f.MaxBatch = 3 })
		d.want(draintest.Numbered(begin, "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8"), "accept accept accept accept accept accept accept accept")
	})
}

func TestCallsHoldNoMoreThanTheBatch(t *testing.T) {
	onDesk(t, func(c *Config) { c.Batch = 3 }, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1", "P2", "P3", "P4", "P5", "P6", "P7"), "accept accept accept accept accept accept accept")
		if d.calls() != 3 {
			t.Errorf("%d calls, want 3", d.calls())
		}
	})
}

func TestAnOutageInTheMiddleKeepsWhatIsKnown(t *testing.T) {
	onDesk(t, func(c *Config) { c.Batch = 2 }, func(d *desk) {
		d.want(draintest.Numbered(begin, "A0001"), "accept")
		down := 0
		old := d.client.cfg.HTTP.Transport
		d.client.cfg.HTTP.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			if down++; down == 3 {
				d.faults(func(f *sandbox.TransferCardFaults) { f.Down = true })
			}
			return old.RoundTrip(r)
		})
		if got, err := d.send(draintest.Numbered(begin, "P1", "P2", "P3", "P4", "P5", "P6")); got != "accept accept accept accept - -" || draintest.KindOf(err) != "outage" {
			t.Errorf("%q, %v", got, err)
		}
	})
	// The same while a batch is sent one by one.
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.TransferCardFaults) { f.Details = sandbox.DetailsOne; f.RevokeAfter = 3 })
		n := 0
		old := d.client.cfg.HTTP.Transport
		d.client.cfg.HTTP.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			if n++; n == 5 { // the token, the batch, two single ones
				d.faults(func(f *sandbox.TransferCardFaults) { f.FailNext, f.FailStatus = -1, 429; f.RetryAfter = "9" })
			}
			return old.RoundTrip(r)
		})
		ps := draintest.Numbered(begin, "X", "P2", "Y", "P4")
		vs, err := d.client.Send(context.Background(), ps)
		if got := draintest.Fates(t, ps, vs); got != "refuse:emp_no_unknown accept - -" || draintest.KindOf(err) != "busy:9s" {
			t.Errorf("%q, %v", got, err)
		}
		// The call with all of them was answered before: 104 holds the last one.
		for i, v := range vs {
			if !v.Resent {
				t.Errorf("%d: %+v is not marked", i, v)
			}
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestASlowAnswerEndsWithTheContext(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.want(draintest.Numbered(begin, "P1"), "accept")
		d.faults(func(f *sandbox.TransferCardFaults) { f.SlowBodyMS = 3_600_000 })
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		start := time.Now()
		vs, err := d.client.Send(ctx, draintest.Numbered(begin, "P2"))
		if len(vs) != 0 || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 6*time.Second {
			t.Errorf("%v, %v after %v", vs, err, time.Since(start))
		}
		start = time.Now()
		if got, err := d.send(draintest.Numbered(begin, "P2")); got != "-" || draintest.KindOf(err) != "outage" || time.Since(start) > 2*time.Minute {
			t.Errorf("without a deadline of the caller: %q, %v after %v", got, err, time.Since(start))
		}
	})
}

// Section 3.3: one row per situation.
func TestTheTokenEndpointsAnswers(t *testing.T) {
	reply := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "4")
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for _, c := range []struct {
		name  string
		reply http.HandlerFunc
		want  string
		hint  string
	}{
		{"invalid_client", reply(401, `{"error":"invalid_client"}`), "denied:auth_failed", "client_secret_file"},
		{"invalid_scope", reply(400, `{"error":"invalid_scope","error_description":"x"}`), "denied:auth_failed", "scope prohrm"},
		{"unsupported_grant_type", reply(400, `{"error":"unsupported_grant_type"}`), "denied:auth_failed", "client credentials"},
		{"invalid_request", reply(400, `{"error":"invalid_request"}`), "denied:auth_failed", "auth_style"},
		{"403", reply(403, ``), "denied:auth_failed", "client_secret_file"},
		{"404", reply(404, ``), "denied:misconfigured", "token_url"},
		{"405", reply(405, ``), "denied:misconfigured", "token_url"},
		{"429", reply(429, ``), "busy:4s", ""},
		{"500", reply(500, ``), "outage", ""},
		{"503", reply(503, `{"access_token":"at"}`), "outage", ""},
		{"302", reply(302, ``), "outage", ""},
		{"html", reply(200, `<html>`), "outage", ""},
		{"no token", reply(200, `{"expires_in":3600}`), "outage", ""},
		{"empty token", reply(200, `{"access_token":"","expires_in":3600}`), "outage", ""},
		{"token is a number", reply(200, `{"access_token":5}`), "outage", ""},
		{"token breaks the header", reply(200, `{"access_token":"at\nX: y"}`), "outage", ""},
		{"network", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "outage", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &desk{t: t, secret: "s3cret-of-104"}
				d.client = d.open(c.reply, nil)
				got, err := d.send(draintest.Numbered(begin, "P1"))
				if got != "-" || draintest.KindOf(err) != c.want {
					t.Errorf("%q, %v; want %s", got, err, c.want)
				}
				var denied *token.Denied
				if errors.As(err, &denied) && !strings.Contains(denied.Hint, c.hint) {
					t.Errorf("hint %q does not speak of %q", denied.Hint, c.hint)
				}
				if d.calls() != 0 {
					t.Errorf("%d calls with punches went out without a token", d.calls())
				}
			})
		})
	}
}

func TestATokenLivesAnHourWhereNothingIsSaidAndIsRenewedFiveMinutesEarly(t *testing.T) {
	for body, life := range map[string]time.Duration{
		`{"access_token":"at-x"}`:                                    time.Hour,
		`{"access_token":"at-x","expires_in":0}`:                     time.Hour,
		`{"access_token":"at-x","expires_in":-5}`:                    time.Hour,
		`{"access_token":"at-x","expires_in":null}`:                  time.Hour,
		`{"access_token":"at-x","expires_in":"soon"}`:                time.Hour,
		`{"access_token":"at-x","expires_in":1800}`:                  30 * time.Minute,
		`{"access_token":"at-x","expires_in":"1800"}`:                30 * time.Minute,
		`{"access_token":"at-x","expires_in":9223372036854775807}`:   7 * 24 * time.Hour,
		`{"access_token":"at-x","expires_in":7200,"scope":"prohrm"}`: 2 * time.Hour,
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &desk{t: t, secret: "s"}
			d.client = d.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == sandbox.TransferCardTokenPath {
					io.WriteString(w, body)
					return
				}
				io.WriteString(w, `{"success":1}`)
			}), nil)
			time.Sleep(2 * time.Second) // a new ceiling holds the first call for one
			d.want(draintest.Numbered(begin, "P1"), "accept")
			time.Sleep(life - 5*time.Minute - time.Second)
			d.want(draintest.Numbered(begin, "P1"), "accept")
			if len(d.tokenRq) != 1 {
				t.Errorf("%s: %d token calls before it is time", body, len(d.tokenRq))
			}
			time.Sleep(2 * time.Second)
			d.want(draintest.Numbered(begin, "P1"), "accept")
			if len(d.tokenRq) != 2 {
				t.Errorf("%s: %d token calls, want a new one 5 minutes before the end", body, len(d.tokenRq))
			}
		})
	}
}

// broken answers in full, and then the connection breaks before the promised end.
func broken(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Length", fmt.Sprint(len(body)+10))
	io.WriteString(w, body)
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestAnAnswerThatBreaksOffIsNoAnswerHoweverCompleteItLooks(t *testing.T) {
	for _, at := range []string{"token", "200", "400"} {
		synctest.Test(t, func(t *testing.T) {
			d := &desk{t: t, secret: "s3cret-of-104"}
			d.client = d.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == sandbox.TransferCardTokenPath && at == "token":
					broken(w, `{"access_token":"at-x"}`)
				case r.URL.Path == sandbox.TransferCardTokenPath:
					io.WriteString(w, `{"access_token":"at-x"}`)
				case at == "400":
					w.Header().Set("Content-Length", "50")
					w.WriteHeader(400)
					broken(w, `{"code":400,"msg":"x"}`)
				case at == "200":
					broken(w, `{"success":1}`)
				default:
					io.WriteString(w, `{"success":1}`)
				}
			}), nil)
			got, err := d.send(draintest.Numbered(begin, "P1"))
			if got != "-" || draintest.KindOf(err) != "outage" || !strings.Contains(err.Error(), "broke off") {
				t.Errorf("%s: %q, %v", at, got, err)
			}
		})
	}
}

func TestAKickAfterTheSecretWasCorrectedDeliversAtOnce(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		right := d.secret
		d.secret = "old-secret"
		log := &draintest.Log{}
		log.Append(draintest.Numbered(begin, "P1", "X", "P2")...)
		w := drain.NewWorker(drain.Config{Name: "104", Log: log, Dest: d.client, Logger: slog.New(slog.NewTextHandler(&d.logs, nil))})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(time.Minute)
		if s := w.Status(); s.State != token.AuthFailed || !strings.Contains(s.LastError, "client_secret_file") {
			t.Errorf("status %+v", s)
		}
		d.secret = right
		w.Kick()
		time.Sleep(10 * time.Second)
		if s := w.Status(); s.State != drain.OK || d.ledger() != "P1 P2" {
			t.Errorf("status %+v, ledger %q", s, d.ledger())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestACorrectedSecretIsUsedWithoutARestart(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		right := d.secret
		d.secret = "old-secret"
		if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "denied:auth_failed" {
			t.Fatalf("%q, %v", got, err)
		}
		d.secret = right + "\n"
		if got, err := d.send(draintest.Numbered(begin, "P1")); got != "-" || draintest.KindOf(err) != "denied:auth_failed" || len(d.tokenRq) != 1 {
			t.Fatalf("the far side is hammered: %q, %v, %d token calls", got, err, len(d.tokenRq))
		}
		d.client.Reset()
		d.want(draintest.Numbered(begin, "P1"), "accept")
		if !slices.Equal(d.tokens, []string{"denied", "ok"}) {
			t.Errorf("token refreshes %q", d.tokens)
		}
	})
	// Nobody resets: the slow probe finds it.
	onDesk(t, nil, func(d *desk) {
		right := d.secret
		d.secret = "old-secret"
		d.send(draintest.Numbered(begin, "P1"))
		d.secret = right
		time.Sleep(5*time.Minute + time.Second)
		d.want(draintest.Numbered(begin, "P1"), "accept")
	})
}

func TestASecretThatCannotBeReadIsAMisconfiguration(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.secrets = errors.New("open 104-secret: no such file")
		got, err := d.send(draintest.Numbered(begin, "P1"))
		if got != "-" || draintest.KindOf(err) != "denied:misconfigured" || !strings.Contains(err.Error(), "client_secret_file") {
			t.Errorf("%q, %v", got, err)
		}
		d.secrets, d.secret = nil, " \n"
		d.client.Reset()
		if got, err := d.client.Send(context.Background(), draintest.Numbered(begin, "P1")); len(got) != 0 || draintest.KindOf(err) != "denied:misconfigured" {
			t.Errorf("empty secret: %v, %v", got, err)
		}
		d.secrets = &token.Denied{State: token.Misconfigured, Hint: "own words", Err: errors.New("x")}
		d.client.Reset()
		if _, err := d.client.Send(context.Background(), draintest.Numbered(begin, "P1")); !strings.Contains(err.Error(), "own words") {
			t.Errorf("the hint of the secret's reader is lost: %v", err)
		}
		if len(d.tokenRq) != 0 {
			t.Errorf("%d token calls without a secret", len(d.tokenRq))
		}
	})
}

// Section 5.
func TestTransferTpCard(t *testing.T) {
	for _, c := range []struct {
		uno  string
		text bool
		want string
	}{
		{"12345678", false, `[{"uno":12345678,"cardData":[{"empNo":"P1","cardTime":1766448000987}]}]`},
		{"12345678", true, `[{"uno":"12345678","cardData":[{"empNo":"P1","cardTime":1766448000987}]}]`},
		{"01234567", false, `[{"uno":"01234567","cardData":[{"empNo":"P1","cardTime":1766448000987}]}]`},
		{"1234567", false, `[{"uno":"01234567","cardData":[{"empNo":"P1","cardTime":1766448000987}]}]`},
	} {
		onDesk(t, func(cfg *Config) { cfg.UNO, cfg.UNOText = c.uno, c.text }, func(d *desk) {
			d.want(draintest.Numbered(begin, "P1"), "accept")
			if got := string(d.bodies[0]); got != c.want {
				t.Errorf("body\n%s, want\n%s", got, c.want)
			}
			d.want(draintest.Numbered(begin, "P2", "X", "P3"), "accept refuse:emp_no_unknown accept")
			for _, r := range d.cloud.Ledger() {
				if r.Company != padUNO(c.uno) {
					t.Errorf("company %q", r.Company)
				}
			}
		})
	}
}

func TestTransferTpCardCodes(t *testing.T) {
	for _, asNumber := range []bool{false, true} {
		for code, want := range map[string]string{
			"200": "", "490": "denied:auth_failed", "491": "denied:auth_failed",
			"492": "denied:misconfigured", "493": "outage",
		} {
			onDesk(t, func(cfg *Config) { cfg.UNO = "12345678" }, func(d *desk) {
				d.faults(func(f *sandbox.TransferCardFaults) {
					f.TpCodes, f.TpCodeNumber = map[string]string{"12345678": code}, asNumber
				})
				got, err := d.send(draintest.Numbered(begin, "P1", "P2"))
				if draintest.KindOf(err) != want || (want == "") != (got == "accept accept") || want != "" && got != "- -" {
					t.Errorf("code %s: %q, %v; want %q", code, got, err, want)
				}
			})
		}
	}
}

func TestSettingsAreChecked(t *testing.T) {
	good := Config{
		APIBase: "https://a.invalid/prohrm/1.0", TokenURL: "https://a.invalid/oauth2/token", ClientID: "c",
		Secret: func() (string, error) { return "", nil }, HTTP: &http.Client{}, Log: slog.New(slog.DiscardHandler),
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"api_base":   func(c *Config) { c.APIBase = "apis.104api.com.tw" },
		"token_url":  func(c *Config) { c.TokenURL = "https://u:p@a.invalid" },
		"client_id":  func(c *Config) { c.ClientID = "" },
		"required":   func(c *Config) { c.HTTP = nil },
		"batch 501":  func(c *Config) { c.Batch = 501 },
		"emp_no_pad": func(c *Config) { c.EmpNoPad = -1 },
		"5m":         func(c *Config) { c.Early = -1 },
		"auth":       func(c *Config) { c.Auth = "digest" },
		"idx_base":   func(c *Config) { c.IdxBase = "2" },
		"tax id":     func(c *Config) { c.UNO = "12 45" },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %q", err, want)
		}
	}
}

func TestNoSecretAndNoNameInTheLog(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		d.faults(func(f *sandbox.TransferCardFaults) {
			f.MaxBatch, f.MaxBatchStatus, f.Details = 4, 413, sandbox.DetailsOne
		})
		d.send(draintest.Numbered(begin, "X", "P1", "Y", "P2", "P3", "P4", "P5", "P6"))
		d.cloud.Revoke()
		d.send(draintest.Numbered(begin, "P7"))
		if d.logs.Len() == 0 {
			t.Error("nothing was logged: this test proves nothing")
		}
		for _, bad := range []string{d.secret, "at-", "P1", "empNo"} {
			if strings.Contains(d.logs.String(), bad) {
				t.Errorf("the log holds %q:\n%s", bad, d.logs.String())
			}
		}
	})
}

func TestTransferCardSurvivesEverythingADestinationMust(t *testing.T) {
	draintest.Run(t, draintest.Harness{New: func(t *testing.T) draintest.FarSide {
		cloud := sandbox.NewTransferCard(sandbox.TransferCardConfig{People: sandbox.People(draintest.Roster...)})
		id, secret := cloud.Credentials()
		key := func(number string, ms int64) string { return fmt.Sprintf("%s@%d", number, ms) }
		return draintest.FarSide{
			Wire: sandbox.Transport(cloud), Secret: secret,
			Open: func(wire http.RoundTripper, secret string) (drain.Destination, error) {
				hc, err := drain.NewClient(drain.ClientOptions{Pace: drain.NewPace(25), Transport: wire})
				if err != nil {
					return nil, err
				}
				return New(Config{
					APIBase:  "https://104.invalid" + sandbox.TransferCardBase,
					TokenURL: "https://104.invalid" + sandbox.TransferCardTokenPath,
					ClientID: id, Secret: func() (string, error) { return secret, nil },
					HTTP: hc, Log: slog.New(slog.DiscardHandler),
				})
			},
			Ledger: func() (keys []string) {
				for _, r := range cloud.Ledger() {
					keys = append(keys, key(r.EmpNo, r.CardTime))
				}
				return keys
			},
			Key:    func(p punch.Punch) string { return key(p.Employee, p.Time().UnixMilli()) },
			Token:  func(r *http.Request) bool { return r.URL.Path == sandbox.TransferCardTokenPath },
			Revoke: cloud.Revoke,
			Limit: func(n int) time.Duration {
				cloud.SetFaults(func(f *sandbox.TransferCardFaults) {
					f.FailNext, f.FailStatus, f.FailOn, f.RetryAfter = n, 429, sandbox.OnBusiness, "7"
				})
				return 7 * time.Second
			},
		}
	}})
}

func TestACheckAsksForATokenAndSendsNoPunch(t *testing.T) {
	onDesk(t, nil, func(d *desk) {
		for range 2 { // the second time there is one
			if err := d.client.Check(d.t.Context()); err != nil {
				t.Error(err)
			}
		}
		if len(d.tokenRq) != 1 || len(d.bodies) != 0 {
			t.Errorf("%d token calls, %d with punches", len(d.tokenRq), len(d.bodies))
		}
		d.client.Reset()
		d.secret = "another"
		var denied *token.Denied
		if err := d.client.Check(d.t.Context()); !errors.As(err, &denied) || denied.State != token.AuthFailed || strings.Contains(err.Error(), d.secret) {
			t.Errorf("a wrong secret: %v", err)
		}
	})
}
