package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"punchclock/ui"
)

// asPunchsim makes this program punchsim itself.
const asPunchsim = "PUNCHSIM_TEST_ITSELF"

// TestMain is also punchsim, and a clock: as little of one as the demo can notice.
func TestMain(m *testing.M) {
	if os.Getenv(asPunchsim) != "" {
		os.Exit(run(context.Background(), os.Args[1:], std{os.Stdin, os.Stdout, os.Stderr}))
	}
	if how := os.Getenv("PUNCHSIM_TEST_CLOCK"); how != "" {
		if err := fakeClock(how, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

type fakeConfig struct {
	Device struct {
		ID       string
		StateDir string `toml:"state_dir"`
	}
	Kiosk       struct{ Listen string }
	Reader      []struct{ Port string }
	Destination []struct {
		APIBase  string `toml:"api_base"`
		TokenURL string `toml:"token_url"`
		ClientID string `toml:"client_id"`
		Secret   string `toml:"client_secret_file"`
		BaseURL  string `toml:"base_url"`
		AppID    string `toml:"app_id"`
		AppFile  string `toml:"app_secret_file"`
		UserID   string `toml:"user_id"`
		Password string `toml:"password_file"`
	}
}

// fakeClock speaks the part of the product's outside that a demo relies on. It is
// no clock: it delivers before it answers and stores nothing but a counter.
func fakeClock(how string, args []string) error {
	line := strings.Join(args, " ")
	if strings.HasPrefix(line, "roster import --config ") && strings.HasSuffix(line, "/roster.csv") && len(args) == 5 {
		if how == "bad roster" {
			return fmt.Errorf("line 3: two people with one badge")
		}
		return nil
	}
	if !strings.HasPrefix(line, "run --config ") {
		return fmt.Errorf("unexpected call: %s", line)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		os.Exit(0)
	}()
	if how == "dies" {
		return fmt.Errorf("the disk is on fire")
	}
	text, err := os.ReadFile(args[2])
	if err != nil {
		return err
	}
	var cfg fakeConfig
	if err := toml.Unmarshal(text, &cfg); err != nil {
		return err
	}
	people, err := readPeople(filepath.Join(filepath.Dir(args[2]), rosterFile))
	if err != nil {
		return err
	}
	results := make(chan ui.Result, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, ": hello\n\nevent: screen\ndata: {}\n\n")
		w.(http.Flusher).Flush()
		for {
			select {
			case <-r.Context().Done():
				return
			case v := <-results:
				b, _ := json.Marshal(v)
				fmt.Fprintf(w, "event: result\ndata: %s\n\n", b)
				w.(http.Flusher).Flush()
			}
		}
	})
	l, err := net.Listen("tcp", cfg.Kiosk.Listen)
	if err != nil {
		return err
	}
	go http.Serve(l, mux)
	port, err := os.OpenFile(cfg.Reader[0].Port, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	counter := filepath.Join(cfg.Device.StateDir, "seq")
	if err := os.MkdirAll(cfg.Device.StateDir, 0o700); err != nil {
		return err
	}
	b := make([]byte, 14)
	for {
		if _, err := io.ReadFull(port, b); err != nil {
			return err
		}
		was, _ := os.ReadFile(counter)
		seq, _ := strconv.Atoi(string(was))
		seq++
		if err := os.WriteFile(counter, []byte(strconv.Itoa(seq)), 0o600); err != nil {
			return err
		}
		res := ui.Result{Outcome: "unknown_badge", PunchID: fmt.Sprintf("%s-%012d", cfg.Device.ID, seq), Seq: uint64(seq), Kind: "in", Time: time.Now().Truncate(time.Millisecond)}
		for i, p := range people {
			if p.badge.Value() == string(b[1:11]) {
				res.Outcome, res.Employee, res.Name = "stored", p.number, p.name
				if how == "first is a duplicate" && i == 0 {
					res.Outcome = "duplicate"
				}
			}
		}
		results <- res
		if res.Outcome == "stored" {
			if err := fakeDeliver(cfg, res); err != nil {
				return err
			}
		}
	}
}

func fakeDeliver(cfg fakeConfig, r ui.Result) error {
	secret := func(path string) string {
		b, _ := os.ReadFile(path)
		return strings.TrimSpace(string(b))
	}
	post := func(url, ctype, bearer, body string) (map[string]any, error) {
		req, err := http.NewRequest("POST", url, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", ctype)
		req.Header.Set("Authorization", "Bearer "+bearer)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		var m map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&m); err != nil || resp.StatusCode != 200 {
			return nil, fmt.Errorf("%s: %s %v %v", url, resp.Status, m, err)
		}
		return m, nil
	}
	d := cfg.Destination[0]
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"prohrm"}, "client_id": {d.ClientID}, "client_secret": {secret(d.Secret)}}
	m, err := post(d.TokenURL, "application/x-www-form-urlencoded", "", form.Encode())
	if err != nil {
		return err
	}
	if _, err := post(d.APIBase+"/hrmapi/external/transferCard", "application/json", m["access_token"].(string),
		fmt.Sprintf(`[{"empNo":%q,"cardTime":%d}]`, r.Employee, r.Time.UnixMilli())); err != nil {
		return err
	}
	d = cfg.Destination[1]
	js := "application/json; charset=utf-8"
	if m, err = post(d.BaseURL+"/open-apis/auth/v3/tenant_access_token/internal", js, "",
		fmt.Sprintf(`{"app_id":%q,"app_secret":%q}`, d.AppID, secret(d.AppFile))); err != nil {
		return err
	}
	_, err = post(d.BaseURL+"/open-apis/attendance/v1/user_flows/batch_create?employee_type=employee_no", js, m["tenant_access_token"].(string),
		fmt.Sprintf(`{"flow_records":[{"user_id":%q,"creator_id":%q,"location_name":"x","check_time":"%d","comment":"上班","idempotent_id":%q}]}`,
			r.Employee, r.Employee, r.Time.Unix(), r.PunchID))
	if err != nil || len(cfg.Destination) < 3 {
		return err
	}
	d = cfg.Destination[2]
	if m, err = post(d.BaseURL+"/api/public/user/login", js, "", fmt.Sprintf(`{"user_id":%q,"password":%q}`, d.UserID, secret(d.Password))); err != nil {
		return err
	}
	time.Sleep(200 * time.Millisecond) // the demo must not end before this one has it
	_, err = post(d.BaseURL+"/api/public/signin", js, m["data"].(map[string]any)["token_key"].(string),
		fmt.Sprintf(`{"user_id":%q,"group_id":%q,"sign_date":%q,"status":"上班"}`, r.Employee, d.UserID, r.Time.UTC().Format("2006-01-02 15:04:05-07")))
	return err
}

// demoArgs are those of a demo with the test's own binary as the clock.
func demoArgs(t *testing.T, how, dir string, more ...string) []string {
	t.Helper()
	t.Setenv("PUNCHSIM_TEST_CLOCK", how)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // a clock under the race detector would dawdle at its end
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{"demo", "--clock", self, "--dir", dir, "--listen", "127.0.0.1:0", "--clouds", "127.0.0.1:0"}, more...)
}

func TestDemoOnceEndsWhenBothCloudsHaveThePunch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "run")
	for n := 1; n <= 2; n++ { // the second goes on where the first stopped
		out, wait := start(t, demoArgs(t, "good", dir, "--once")...)
		id := fmt.Sprintf("demo-%012d", n)
		until(t, id+" in both", func() bool {
			s := out.String()
			return strings.Contains(s, "✓ 104    has "+id) && strings.Contains(s, "✓ Feishu has "+id)
		})
		until(t, "the end", func() bool { _, err := os.Lstat(filepath.Join(dir, readerLink)); return os.IsNotExist(err) })
		if code := wait(); code != 0 {
			t.Fatalf("exit %d: %s", code, out)
		}
		for _, want := range []string{"kiosk page    http://127.0.0.1:", "/_control/", "● 上班 000123 王小明", "after the last byte"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in %s", want, out)
			}
		}
	}
	for _, name := range []string{configFile, rosterFile, logFile, secret104, secretFeishu} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
}

func TestDemoWaitsForTheSignInSystemWhereToldTo(t *testing.T) {
	dir := t.TempDir()
	out, wait := start(t, demoArgs(t, "good", dir, "--once", "--signin")...)
	until(t, "the end", func() bool {
		_, err := os.Lstat(filepath.Join(dir, readerLink))
		return strings.Contains(out.String(), "●") && os.IsNotExist(err)
	})
	if code := wait(); code != 0 || !strings.Contains(out.String(), "✓ signin has demo-000000000001") {
		t.Fatalf("exit %d: %s", code, out)
	}
}

func TestDemoWithoutATerminalTapsOnceAndStays(t *testing.T) {
	dir := t.TempDir()
	out, wait := start(t, demoArgs(t, "first is a duplicate", dir)...)
	until(t, "the second person's punch", func() bool {
		return strings.Contains(out.String(), "000123 王小明 again") && strings.Contains(out.String(), "✓ Feishu has demo-000000000002")
	})
	// A second demo in the same place is turned away and breaks nothing.
	second, waitSecond := start(t, demoArgs(t, "good", dir)...)
	until(t, "the second demo's message", func() bool { return second.String() != "" })
	if code := waitSecond(); code != 1 || !strings.Contains(second.String(), "another demo runs") {
		t.Errorf("exit %d: %s", code, second)
	}
	if _, err := os.Stat(filepath.Join(dir, readerLink)); err != nil {
		t.Errorf("the first demo's reader: %v", err)
	}
	pid := childOf(t, dir)
	if code := wait(); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("the clock still runs: %v", err)
	}
}

// childOf finds the clock that runs with a directory's configuration.
func childOf(t *testing.T, dir string) int {
	t.Helper()
	out, err := exec.Command("sh", "-c", `for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline 2>/dev/null | grep -q -- "run --config $1/" && echo "${p#/proc/}"; done; true`, "sh", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(out)) {
		pid, err := strconv.Atoi(word)
		if err == nil && pid != os.Getpid() {
			if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && strings.HasSuffix(exe, ".test") {
				return pid
			}
		}
	}
	t.Fatalf("no clock among %q", out)
	return 0
}

func TestDemoTellsWhyItCouldNotStart(t *testing.T) {
	for how, want := range map[string]string{
		"dies":       "the disk is on fire",
		"bad roster": "line 3: two people with one badge",
	} {
		dir := t.TempDir()
		out, wait := start(t, demoArgs(t, how, dir, "--once")...)
		until(t, "the message", func() bool { return strings.Contains(out.String(), want) })
		if code := wait(); code != 1 {
			t.Errorf("%s: exit %d: %s", how, code, out)
		}
		if _, err := os.Lstat(filepath.Join(dir, readerLink)); !os.IsNotExist(err) {
			t.Errorf("%s: the reader stayed behind", how)
		}
	}
}

func TestDemoTakesAFreePortWhereItsOwnIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	args := demoArgs(t, "good", t.TempDir(), "--once")
	args = append(args, "--listen", l.Addr().String(), "--clouds", l.Addr().String())
	out, wait := start(t, args...)
	until(t, "both clouds", func() bool { return strings.Contains(out.String(), "✓ Feishu") })
	if strings.Contains(out.String(), l.Addr().String()+"/") {
		t.Errorf("a taken port was used: %s", out)
	}
	wait()
}

func TestEventsAreReadAsTheStreamSendsThem(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, ": comment\n\nevent: result\ndata: {\"a\":\ndata: 1}\n\ndata:x\n\nevent: only\n\n")
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	go server.Serve(l)
	defer server.Close()
	var got []string
	err = readEvents(context.Background(), "http://"+l.Addr().String(), func() {}, func(event string, data []byte) error {
		got = append(got, event+"="+string(data))
		return nil
	})
	if want := "result={\"a\":\n1}|=x"; err != nil || strings.Join(got, "|") != want {
		t.Errorf("%q %v", got, err)
	}
}

func TestDemoByKeysTellsEveryTapAndStops(t *testing.T) {
	press, stdin := keyboard(t)
	dir := t.TempDir()
	args := demoArgs(t, "good", dir)
	out, code := &safeBuffer{}, make(chan int, 1)
	go func() { code <- run(t.Context(), args, std{stdin, out, out}) }()
	until(t, "the help", func() bool { return strings.Contains(out.String(), "q  quit") })
	until(t, "the listener", func() bool { return childOf(t, dir) > 0 })
	time.Sleep(100 * time.Millisecond) // the clock opens its port
	press("30")
	until(t, "both answers", func() bool {
		s := out.String()
		return strings.Contains(s, "● 上班 000125 林志豪") && strings.Contains(s, "✓ Feishu has demo-000000000001") && strings.Contains(s, "nobody's badge; stored as demo-000000000002")
	})
	press("q")
	if c := <-code; c != 0 || !strings.Contains(out.String(), "stopping") {
		t.Errorf("exit %d: %s", c, out)
	}
}
