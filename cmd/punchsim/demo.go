package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"punchclock/ui"
)

func demoCmd(io std) *cobra.Command {
	d := demo{std: io}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole product on this desk: clouds, reader, clock",
		Long: `Run the whole product on this desk: the sandbox clouds, a simulated reader, a
punchclock between them, and its kiosk page. Keys tap badges; every result and
every arrival at a cloud is told. Without a terminal one badge is tapped by itself.
The directory keeps the clock's outbox, so a second demo goes on where the first
one stopped.`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&d.clock, "clock", "bin/punchclock", "the punchclock `program`")
	f.StringVar(&d.dir, "dir", ".run", "`directory` for everything the demo writes")
	f.StringVar(&d.listen, "listen", "127.0.0.1:8080", "loopback `address` of the kiosk page; a taken port is replaced by a free one")
	f.StringVar(&d.clouds, "clouds", cloudsDefault, "loopback `address` of the clouds; a taken port is replaced by a free one")
	f.BoolVar(&d.once, "once", false, "tap one badge, wait until every cloud has it, end; 0 if they do")
	f.BoolVar(&d.signin, "signin", false, "deliver to the sign-in system as well")
	return cmd
}

type demo struct {
	std
	clock, dir, listen, clouds string
	once, signin               bool
}

// How long the demo is patient.
const (
	readyWithin   = 20 * time.Second
	listenWithin  = 10 * time.Second
	stopWithin    = 10 * time.Second
	arrivalWithin = 30 * time.Second
)

// The files of a demo, beside the secrets and the clock's state.
const (
	configFile = "punchclock.toml"
	rosterFile = "roster.csv"
	logFile    = "punchclock.log"
	lockFile   = "demo.lock"
	adminFile  = "admin-pin" // the secret of that name, which the clock takes once
	adminPIN   = "demo-4711"
	readerLink = "reader"
)

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

func (d *demo) run(ctx context.Context) error {
	for _, addr := range []string{d.listen, d.clouds} {
		if err := loopback(addr); err != nil {
			return err
		}
	}
	if _, err := os.Stat(d.clock); err != nil {
		return fmt.Errorf("the clock: %w; build it with make build, or name it with --clock", err)
	}
	var err error
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	unlock, err := lock(d.path(lockFile))
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(d.path(rosterFile)); errors.Is(err, os.ErrNotExist) {
		err = os.WriteFile(d.path(rosterFile), []byte(demoRoster), 0o600)
		if err != nil {
			return fmt.Errorf("write the roster: %w", err)
		}
	}
	people, err := readPeople(d.path(rosterFile))
	if err != nil {
		return err
	}
	c, err := newClouds(d.dir, people, false, d.signin)
	if err != nil {
		return err
	}
	if c.listener, err = listenNear(d.clouds); err != nil {
		return fmt.Errorf("serve the clouds: %w", err)
	}
	kiosk, err := freeAddress(d.listen)
	if err != nil {
		c.listener.Close()
		return fmt.Errorf("find a port for the kiosk page: %w", err)
	}
	if err := os.WriteFile(d.path(configFile), []byte(d.config(kiosk, c)), 0o600); err != nil {
		c.listener.Close()
		return fmt.Errorf("write the clock's configuration: %w", err)
	}
	if err := os.WriteFile(d.path(adminFile), []byte(adminPIN), 0o600); err != nil {
		c.listener.Close()
		return fmt.Errorf("write the PIN of the admin page: %w", err)
	}

	l, err := newLine(d.path(readerLink), "rdm6300")
	if err != nil {
		c.listener.Close()
		return err
	}

	// The clouds stay until the clock has stopped, so that it stops in peace.
	cloudCtx, stopClouds := context.WithCancel(context.WithoutCancel(ctx))
	defer stopClouds()
	var g errgroup.Group
	g.Go(func() error { return c.run(cloudCtx) })
	err = withCable(ctx, l, func(ctx context.Context) error {
		return d.withClock(ctx, kiosk, func(ctx context.Context, exited <-chan struct{}) error {
			desk := &desk{demo: d, clouds: c, kiosk: "http://" + kiosk, exited: exited,
				reader: &reader{line: l, dialect: "rdm6300", people: people}}
			return desk.run(ctx)
		})
	})
	stopClouds()
	return errors.Join(err, g.Wait())
}

// lock keeps a second demo out of a directory. The lock goes with the process.
func lock(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the demo's directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another demo runs in %s; stop it, or use another --dir", filepath.Dir(path))
	}
	return f.Close, nil
}

// freeAddress returns addr, or one with a free port where that port is taken. The
// clock itself listens there a moment later.
func freeAddress(addr string) (string, error) {
	l, err := listenNear(addr)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (d *demo) config(kiosk string, c *clouds) string {
	return fmt.Sprintf(`# Written by punchsim demo; the next demo writes it again.
schema = 1

[device]
id        = "demo"
name      = "示範打卡機"
state_dir = %q

[kiosk]
listen           = %q
duplicate_window = "10s" # short, to try things; a door wants 60s

[clock]
trust = "system"

[[reader]]
name    = "front"
driver  = "serial"
port    = %q
baud    = 9600
dialect = "rdm6300"

%s`, d.path("state"), kiosk, d.path(readerLink), c.destinations())
}

// withClock imports the roster, runs the clock as a child, waits until it is
// ready, calls do, and stops the clock.
func (d *demo) withClock(ctx context.Context, kiosk string, do func(ctx context.Context, exited <-chan struct{}) error) error {
	imp := exec.CommandContext(ctx, d.clock, "roster", "import", "--config", d.path(configFile), d.path(rosterFile))
	if out, err := imp.CombinedOutput(); err != nil {
		return fmt.Errorf("import the roster: %w\n%s", err, bytes.TrimSpace(out))
	}
	logs, err := os.OpenFile(d.path(logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the clock's log: %w", err)
	}
	defer logs.Close()
	info, err := logs.Stat()
	if err != nil {
		return fmt.Errorf("open the clock's log: %w", err)
	}
	began := info.Size() // of this run's part of the log

	child := exec.Command(d.clock, "run", "--config", d.path(configFile))
	child.Stdout, child.Stderr = logs, logs
	// A group of its own: Ctrl-C reaches the demo only, which stops the clock in
	// order. Should the demo be killed, the clock is told to stop too.
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started, exited := make(chan error), make(chan struct{})
	var ended error
	go func() {
		runtime.LockOSThread() // Pdeathsig looks at the thread that started the child
		defer runtime.UnlockOSThread()
		err := child.Start()
		started <- err
		if err == nil {
			ended = child.Wait()
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start the clock: %w", err)
	}

	err = waitReady(ctx, "http://"+kiosk+"/readyz", exited)
	if err == nil {
		err = do(ctx, exited)
	}
	select {
	case <-exited:
		return errors.Join(err, fmt.Errorf("the clock ended by itself (%v); the end of %s:\n%s", ended, logs.Name(), lastLines(logs.Name(), began)))
	default:
	}
	if errors.Is(err, errNotReady) {
		err = fmt.Errorf("%w; the end of %s:\n%s", err, logs.Name(), lastLines(logs.Name(), began))
	}
	child.Process.Signal(syscall.SIGTERM) // it may have ended this very moment
	select {
	case <-exited:
	case <-time.After(stopWithin):
		child.Process.Kill()
		<-exited
		return errors.Join(err, fmt.Errorf("the clock did not stop within %v and was killed; its outbox is safe", stopWithin))
	}
	if ended != nil && err == nil {
		err = fmt.Errorf("the clock's end: %w; see %s", ended, logs.Name())
	}
	return err
}

var errNotReady = fmt.Errorf("the clock was not ready within %v", readyWithin)

// waitReady asks until the clock says that a punch could be stored.
func waitReady(ctx context.Context, url string, exited <-chan struct{}) error {
	limit := time.Now().Add(readyWithin)
	client := &http.Client{Timeout: 2 * time.Second}
	for time.Now().Before(limit) {
		resp, err := client.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-exited:
			return nil // told by whoever waits for the child
		case <-ctx.Done():
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
	return errNotReady
}

// lastLines returns the last lines of a log, beginning no earlier than from.
func lastLines(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}

// desk is a demo that is up: keys go in, results and arrivals come out.
type desk struct {
	*demo
	clouds *clouds
	kiosk  string
	exited <-chan struct{}
	reader *reader

	tapped  time.Time // when the last byte of the last badge was out; zero once answered
	next    int       // whose badge is tapped by itself
	waiting []arrival
}

// arrival is a punch on its way to the clouds.
type arrival struct {
	result                   ui.Result
	since                    time.Time // the last byte of the badge
	in104, inFlows, inSignin bool
}

func (k *desk) say(format string, args ...any) { fmt.Fprintf(k.out, format+"\n", args...) }

func (k *desk) run(ctx context.Context) error {
	if ctx.Err() != nil || isDone(k.exited) {
		return nil
	}
	if err := k.awaitReader(ctx); err != nil {
		return err
	}
	k.say("kiosk page    %s/", k.kiosk)
	k.say("admin page    %s/admin, PIN %s", k.kiosk, adminPIN)
	k.say("the clouds    %s", k.clouds.control())
	k.say("clock's log   %s", k.path(logFile))
	hands := !k.once && isTerminal(k.in)
	if hands {
		k.say("press a key to tap a badge:\n%s", strings.TrimRight(k.reader.help(), "\n"))
	}

	ctx, cancel := context.WithCancel(ctx)
	g, gctx := errgroup.WithContext(ctx)
	results, keys := make(chan ui.Result), make(chan byte)
	connected := make(chan struct{})
	g.Go(func() error { return followResults(gctx, k.kiosk+"/events", connected, results) })
	if hands {
		restore, err := singleKeys(k.in)
		if err != nil {
			cancel()
			return errors.Join(fmt.Errorf("read single keys: %w", err), g.Wait())
		}
		defer restore()
		g.Go(func() error {
			readKeys(gctx, k.in, keys)
			return nil
		})
	} else {
		keys = nil
	}
	g.Go(func() error {
		defer cancel()
		return k.loop(gctx, connected, keys, results)
	})
	err := g.Wait()
	cancel()
	return err
}

// awaitReader waits until the clock has opened the port and is ready to hear. A
// clock that does not is told of, and is an error only where nobody could help.
func (k *desk) awaitReader(ctx context.Context) error {
	patient, cancel := context.WithTimeout(ctx, listenWithin)
	defer cancel()
	err := k.reader.line.waitListener(patient)
	if err == nil {
		return ignoreCancel(k.reader.settle(ctx))
	}
	if ctx.Err() != nil {
		return nil
	}
	err = fmt.Errorf("the clock has not opened its reader %s within %v; see %s", k.reader.line.name(), listenWithin, k.path(logFile))
	if k.once {
		return err
	}
	k.say("✗ %v", err)
	return nil
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// loop is the only one who prints and taps.
func (k *desk) loop(ctx context.Context, connected <-chan struct{}, keys <-chan byte, results <-chan ui.Result) error {
	self := keys == nil // nobody at the keys: one badge is tapped by itself
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var check <-chan time.Time
	limit := time.Now().Add(arrivalWithin) // of a demo that ends by itself
	for {
		check = nil
		if len(k.waiting) > 0 || k.once || !k.tapped.IsZero() {
			check = tick.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.exited:
			return nil
		case <-connected:
			connected = nil
			if self {
				if err := k.tapNext(); err != nil {
					return err
				}
			}
		case key, more := <-keys:
			if !more {
				return nil
			}
			said, quit, err := k.reader.key(key)
			if quit {
				k.say("stopping")
				return nil
			}
			if err != nil {
				said = err.Error()
			} else if key >= '0' && key <= '9' || key == 'g' {
				k.tapped = time.Now()
			}
			if said != "" {
				k.say("%s", said)
			}
		case r := <-results:
			k.result(r)
			if self && r.Outcome == "duplicate" && k.next < len(k.reader.people) {
				if err := k.tapNext(); err != nil { // somebody has just badged: the next one then
					return err
				}
			} else if k.once && r.Outcome != "stored" {
				return fmt.Errorf("the tap was answered %s, not stored", r.Outcome)
			}
		case <-check:
			done := k.arrivals()
			if k.once && done {
				return nil
			}
			if k.once && time.Now().After(limit) {
				return fmt.Errorf("the punch was not in every cloud after %v; see %s and %s", arrivalWithin, k.clouds.control(), k.path(logFile))
			}
			if !k.tapped.IsZero() && time.Since(k.tapped) > 5*time.Second {
				k.say("✗ no answer from the clock within 5 s; see %s", k.path(logFile))
				k.tapped = time.Time{}
			}
		}
	}
}

// tapNext taps the badge of the next person who has one.
func (k *desk) tapNext() error {
	for k.next < len(k.reader.people) {
		p := k.reader.people[k.next]
		k.next++
		if p.badge == "" {
			continue
		}
		said, err := k.reader.tap(p.badge)
		if err != nil {
			return err
		}
		k.tapped = time.Now()
		k.say("%s", said)
		return nil
	}
	return fmt.Errorf("nobody in %s has a badge to tap", k.path(rosterFile))
}

var kindWords = map[string]string{"in": "上班", "out": "下班", "go-out": "外出", "return": "外歸"}

// result tells the answer to a tap, and waits for the clouds from then on.
func (k *desk) result(r ui.Result) {
	after, since := "", time.Now()
	if !k.tapped.IsZero() {
		since = k.tapped
		after = fmt.Sprintf(" (%d ms after the last byte)", time.Since(k.tapped).Milliseconds())
		k.tapped = time.Time{}
	}
	at := r.Time.Format("15:04:05.000")
	switch r.Outcome {
	case "stored":
		k.say("● %s %s %s %s  %s%s", kindWords[r.Kind], r.Employee, r.Name, at, r.PunchID, after)
		k.waiting = append(k.waiting, arrival{result: r, since: since, inSignin: !k.signin})
	case "unknown_badge":
		k.say("○ nobody's badge; stored as %s%s, sent once the roster knows it", r.PunchID, after)
	case "duplicate":
		k.say("○ %s %s again: recorded, not sent%s", r.Employee, r.Name, after)
	case "misread":
		k.say("○ not readable: please try again%s", after)
	default:
		k.say("✗ %s%s", strings.ReplaceAll(r.Outcome, "_", " "), after)
	}
}

// arrivals tells which punches have reached a cloud, and reports whether at least
// one was awaited and all have.
func (k *desk) arrivals() bool {
	if len(k.waiting) == 0 {
		return false
	}
	cards, flows, signs := k.clouds.tc.Ledger(), k.clouds.fs.Ledger(), k.clouds.si.Ledger()
	left := k.waiting[:0]
	for _, a := range k.waiting {
		told := func(cloud string, at time.Time) {
			k.say("  ✓ %-6s has %s after %.3f s", cloud, a.result.PunchID, max(0, at.Sub(a.since).Seconds()))
		}
		for i := len(cards) - 1; i >= 0 && !a.in104; i-- {
			if c := cards[i]; c.EmpNo == a.result.Employee && c.CardTime == a.result.Time.UnixMilli() {
				a.in104 = true
				told("104", c.At)
			}
		}
		for i := len(flows) - 1; i >= 0 && !a.inFlows; i-- {
			if f := flows[i]; f.Flow.IdempotentID == a.result.PunchID {
				a.inFlows = true
				told("Feishu", f.At)
			}
		}
		for i := len(signs) - 1; i >= 0 && !a.inSignin; i-- {
			// It has no key: the account, the second and the status must do.
			s := signs[i]
			at, err := time.Parse("2006-01-02 15:04:05-07", s.SignDate)
			if err == nil && at.Unix() == a.result.Time.Unix() && s.Status == kindWords[a.result.Kind] && s.UserID == k.signinID(a.result.Employee) {
				a.inSignin = true
				told("signin", s.At)
			}
		}
		if !a.in104 || !a.inFlows || !a.inSignin {
			left = append(left, a)
		}
	}
	k.waiting = left
	return len(left) == 0
}

// signinID is what the sign-in system calls an employee.
func (k *desk) signinID(number string) string {
	for _, p := range k.reader.people {
		if p.number == number && p.signinID != "" {
			return p.signinID
		}
	}
	return number
}

// followResults reads the clock's event stream until ctx is done, again and again
// should it break off, and sends every result. It closes connected once it hears
// the stream for the first time.
func followResults(ctx context.Context, url string, connected chan<- struct{}, results chan<- ui.Result) error {
	for first := true; ; {
		err := readEvents(ctx, url, func() {
			if first {
				first = false
				close(connected)
			}
		}, func(event string, data []byte) error {
			if event != "result" {
				return nil
			}
			var r ui.Result
			if err := json.Unmarshal(data, &r); err != nil {
				return fmt.Errorf("the clock's result event: %w", err)
			}
			select {
			case results <- r:
			case <-ctx.Done():
			}
			return nil
		})
		var network net.Error
		if err != nil && !errors.As(err, &network) && !errors.Is(err, io.ErrUnexpectedEOF) && ctx.Err() == nil {
			return err
		}
		if sleep(ctx, 200*time.Millisecond) != nil {
			return nil
		}
	}
}

// readEvents reads one event stream to its end.
func readEvents(ctx context.Context, url string, up func(), each func(event string, data []byte) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("listen to the clock's events: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("listen to the clock's events: %s answered %s", url, resp.Status)
	}
	up()
	var event string
	var data []byte
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			if data != nil {
				if err := each(event, data); err != nil {
					return err
				}
			}
			event, data = "", nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			event = value
		case "data":
			if data != nil {
				data = append(data, '\n')
			}
			data = append(data, value...)
		}
	}
	return lines.Err()
}
