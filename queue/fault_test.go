package queue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"punchclock/queue/punch"
)

// The errors of the medium. A process works with an outbox while strace makes its
// n-th write, sync, truncation or rename fail, once, three times or from then on,
// or kills it there, for n = 1, 2, 3 … until it makes no n-th one. Whoever is told of an error does the same again, as people do. What
// was acknowledged must be there after a restart, and nothing twice; and it must
// be there too if the power goes and the medium keeps nothing of what a sync has
// failed to write.

// faultTries is how often the process does the same again before it gives up.
const faultTries = 12

var errStuck = errors.New("given up")

// faultChild is the process whose calls fail: a small working day, all on one
// thread, because strace counts the calls of each thread apart.
func faultChild(dir string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Said with writev, so that the calls that fail are the outbox's only.
	say := func(format string, args ...any) {
		line := fmt.Appendf(nil, format+"\n", args...)
		v := syscall.Iovec{Base: &line[0]}
		v.SetLen(len(line))
		if _, _, errno := syscall.Syscall(syscall.SYS_WRITEV, 1, uintptr(unsafe.Pointer(&v)), 1); errno != 0 {
			panic(errno)
		}
	}
	anyway := os.Getenv("OUTBOX_ACK") == "anyway"
	lasting := os.Getenv("OUTBOX_LASTING") != "" // the fault does not go away
	dies := os.Getenv("OUTBOX_DIES") != ""       // with the first error, before it can read anything anew
	o := statesOptions(dir)
	o.SegmentRecords = 10
	o.ahead = 8 << 10 // used up soon, so that bbolt has to make the file longer by itself
	var b *Outbox
	// until repeats what did not work.
	until := func(what string, fn func() error) error {
		var err error
		for range faultTries {
			if err = fn(); err == nil {
				return nil
			}
			fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
			if dies {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}
		return errStuck
	}
	open := func() error {
		return until("open", func() (err error) { b, err = Open(o); return err })
	}
	writable := func() error { // Writable itself would ask on another thread
		b.wmu.Lock()
		defer b.wmu.Unlock()
		return b.writable()
	}
	day := func() error {
		if err := open(); err != nil {
			return err
		}
		from, _ := strconv.Atoi(os.Getenv("OUTBOX_FROM"))
		if from > 0 { // a second life: what is handed out now must not be gone later
			for _, dest := range o.Destinations {
				ps, err := b.Next(dest, 100)
				if err != nil {
					return err
				}
				for _, p := range ps {
					say("ack %d %d", binary.BigEndian.Uint32(p.Tap[1:]), p.Seq)
				}
			}
		}
		for i := from; i < 26; i++ {
			say("begin %d", i)
			failed := false
			err := until("append", func() error {
				fit := !failed
				if failed && lasting {
					fit = writable() == nil
				}
				p, err := b.Append(draft(i))
				if failed && lasting && fit != (err == nil) {
					say("misjudged punch %d: writable %v, append: %v", i, fit, err)
				}
				failed = err != nil
				if err == nil || anyway { // anyway: the negative control
					say("ack %d %d", i, max(p.Seq, b.head))
					return nil
				}
				return err
			})
			if err != nil {
				return err
			}
			dest := o.Destinations[i%2]
			switch i % 5 {
			case 1, 4:
				var ps []punch.Punch
				if err := until("next", func() (err error) { ps, err = b.Next(dest, 4); return err }); err != nil {
					return err
				}
				words := ""
				vs := accept(ps)
				for k := range vs {
					if vs[k].Fate = punch.Accept; k == 2 {
						vs[k].Fate, vs[k].Reason = punch.Refuse, "x"
						words += fmt.Sprintf(" %d=parked", ps[k].Seq)
						continue
					}
					words += fmt.Sprintf(" %d=done", ps[k].Seq)
				}
				say("settle %s%s", dest, words)
				if err := until("settle", func() error { return b.Settle(dest, vs) }); err != nil {
					return err
				}
				say("settled %s%s", dest, words)
			case 3:
				if err := b.Tidy(); err != nil { // it is done in the next round
					fmt.Fprintln(os.Stderr, "tidy:", err)
					if dies {
						syscall.Kill(os.Getpid(), syscall.SIGKILL)
					}
				}
				if err := b.copyMirror(context.Background()); err != nil { // likewise
					fmt.Fprintln(os.Stderr, "second copy:", err)
				}
			}
			if i == 17 { // a restart
				b.Close() // a file that cannot be closed well is closed
				if err := open(); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err := day()
	if b != nil {
		b.Close()
	}
	if errors.Is(err, errStuck) {
		say("stuck")
		err = nil
	}
	return err
}

// fault is one way in which the medium fails, or with errno "KILL" the process:
// it is killed as it makes the call, and started again. With "DIES" the call fails
// with EIO, and the process is killed when it hears of it.
type fault struct {
	call, errno string
	when        string // of strace: n, n..m, n+
}

func (f fault) String() string { return f.call + ":" + f.errno + ":when=" + f.when }

// lasting: it never goes away.
func (f fault) lasting() bool { return strings.HasSuffix(f.when, "+") }

// outcome is what came of one run.
type outcome struct {
	reached bool // the n-th call was made
	stuck   bool
	acked   int
	why     map[string]string
}

// underFault runs the process with a fault, and examines what it leaves behind:
// after a restart, and after power cuts at every promise.
func underFault(t *testing.T, f fault, env ...string) outcome {
	t.Helper()
	base := memoryDir(t)
	defer os.RemoveAll(base)
	out := outcome{why: map[string]string{}}
	medium, trace := filepath.Join(base, "medium"), filepath.Join(base, "trace")
	if err := os.Mkdir(medium, 0o700); err != nil {
		t.Fatal(err)
	}
	traces := []string{trace}
	live := func(trace, inject, from string, dies bool) (string, error) {
		words, err := os.Create(filepath.Join(base, "said"))
		if err != nil {
			t.Fatal(err)
		}
		defer words.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		args := []string{"-xx", "-s", "300000", "-o", trace, "-e", "trace=openat,close,write,pwrite64,writev,fsync,fdatasync,ftruncate,renameat,unlinkat,mkdirat"}
		if inject != "" {
			args = append(args, "-e", "inject="+inject)
		}
		if f.call == "write" { // Go's own are not the medium's
			dir := filepath.Join(medium, "outbox")
			paths := []string{words.Name(), medium, dir, filepath.Join(dir, "high-water"), filepath.Join(dir, "high-water.new"), filepath.Join(dir, "next.db.new")}
			for seq := range uint64(60) {
				paths = append(paths, segmentPath(dir, seq), segmentPath(dir, seq)+".new")
			}
			for _, p := range paths {
				args = append(args, "-P", p)
			}
		}
		cmd := strace(t, ctx, append(args, os.Args[0])...)
		cmd.Env = append(os.Environ(), "OUTBOX_CHILD="+medium, "OUTBOX_MODE=fault", "OUTBOX_FROM="+from)
		if f.lasting() {
			cmd.Env = append(cmd.Env, "OUTBOX_LASTING=1")
		}
		if dies {
			cmd.Env = append(cmd.Env, "OUTBOX_DIES=1")
		}
		cmd.Env = append(cmd.Env, env...)
		var errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = words, &errs
		err = cmd.Run()
		return errs.String(), err
	}
	inject := f.call + ":error=" + f.errno + ":when=" + f.when
	switch f.errno {
	case "KILL":
		inject = f.call + ":signal=SIGKILL:when=" + f.when
	case "DIES":
		inject = f.call + ":error=EIO:when=" + f.when
	}
	log, err := live(trace, inject, "", f.errno == "DIES")
	killed := err != nil && (f.errno == "KILL" || f.errno == "DIES")
	if err != nil && !killed {
		out.why["ended"] = fmt.Sprintf("%v: %.1500s", err, log)
		return out
	}
	if !killed {
		raw, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		out.reached = bytes.Contains(raw, []byte("(INJECTED)"))
	} else {
		out.reached = true
		from := 0
		raw, err := os.ReadFile(filepath.Join(base, "said"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			if n, ok := strings.CutPrefix(line, "begin "); ok {
				from, _ = strconv.Atoi(strings.TrimSpace(n)) // the tap that was under way comes again
			}
		}
		second := filepath.Join(base, "trace2")
		if log, err = live(second, "", strconv.Itoa(from), false); err != nil {
			out.why["ended"] = fmt.Sprintf("%v: %.1500s", err, log)
			return out
		}
		traces = append(traces, second)
	}
	said, r := newPromises(), newRecorder(medium)
	rnd := rand.New(rand.NewPCG(1, 2))
	hear := func(line string) {
		switch word, _, _ := strings.Cut(line, " "); word {
		case "stuck":
			out.stuck = true
			return
		case "misjudged":
			out.why["misjudged"] = line
			return
		}
		if err := said.hear(line); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(line, "ack") && !strings.HasPrefix(line, "settled") {
			return
		}
		seen := map[[32]byte]bool{}
		r.each(rnd, nil, func(c choice) { // all equal where every promise was kept before it was made
			files := r.state(c)
			h := sha256.New()
			for _, name := range slices.Sorted(maps.Keys(files)) {
				fmt.Fprint(h, name, len(files[name]))
				h.Write(files[name])
			}
			id := [32]byte(h.Sum(nil))
			if !seen[id] && (len(seen) > 0 || len(c.done) > 0) && len(seen) < 20 {
				_, why := openState(filepath.Join(base, "state"), files, said, false)
				for k, w := range why {
					out.why[k] = "after a power cut at " + line + ": " + w
				}
			}
			seen[id] = true
		})
	}
	for _, trace := range traces {
		r.fds, said.unsure = map[int]*handle{}, maps.Clone(said.trying)
		if err := r.replay(trace, hear); err != nil {
			t.Fatalf("%v: %v", f, err)
		}
	}
	out.acked = len(said.acked)
	if out.stuck && !f.lasting() {
		out.why["stuck"] = "it did not recover although the fault had gone: " + log
	}
	if _, err := os.Stat(filepath.Join(medium, "outbox", "quarantine")); err == nil {
		out.why["quarantine"] = "a file was set aside although none is damaged: " + log
	}
	_, why := examine(medium, said, false)
	for k, w := range why {
		out.why[k] = "after a restart: " + w
	}
	if len(out.why) > 0 {
		out.why["log"] = fmt.Sprintf("%.900s", log)
	}
	return out
}

var faultCalls = []string{"fdatasync", "pwrite64", "write", "fsync", "ftruncate", "renameat"}

// sweep runs the faults of one call for n = 1, 1+stride, … until the run no
// longer reaches n, and returns the last n that was reached and how many ran.
func sweep(t *testing.T, call, errno, form string, first, stride int, env []string, bad func(f fault, o outcome)) (last, runs, acked int) {
	t.Helper()
	for n := first; n < 5000; n += stride {
		f := fault{call, errno, strings.NewReplacer("N", fmt.Sprint(n), "M", fmt.Sprint(n+2)).Replace(form)}
		o := underFault(t, f, env...)
		if !o.reached && len(o.why) == 0 {
			return last, runs, acked
		}
		last = n
		runs++
		acked += o.acked
		if len(o.why) > 0 {
			bad(f, o)
		}
		if t.Failed() && runs > 400 {
			return last, runs, acked
		}
	}
	t.Fatalf("%s: no end", call)
	return
}

func TestEveryFaultOfTheMediumKeepsWhatWasPromised(t *testing.T) {
	type row struct {
		errno, form   string
		first, stride int
	}
	rows := []row{{"EIO", "N", 2, 47}, {"ENOSPC", "N+", 3, 61}, {"EIO", "N..M", 7, 53}, {"KILL", "N", 4, 59}, {"DIES", "N", 5, 37}}
	calls := faultCalls
	long := os.Getenv("FAULTS") != ""
	if long && os.Getenv("FAULTS") != "all" { // some of them
		calls = strings.Fields(os.Getenv("FAULTS"))
	}
	if long {
		rows = nil
		for _, errno := range []string{"EIO", "ENOSPC"} {
			for _, form := range []string{"N", "N..M", "N+"} {
				rows = append(rows, row{errno, form, 1, 1})
			}
		}
		rows = append(rows, row{"KILL", "N", 1, 1}, row{"DIES", "N", 1, 1})
	}
	shown := 0
	for _, call := range calls {
		for _, w := range rows {
			bad := 0
			last, runs, acked := sweep(t, call, w.errno, w.form, w.first, w.stride, nil, func(f fault, o outcome) {
				bad++
				if shown++; shown <= 12 {
					t.Errorf("%v: %v", f, o.why)
				} else {
					t.Fail()
				}
			})
			t.Logf("%-9s %-6s when=%-4s %3d runs, n up to %3d, %5d punches acknowledged, %d runs bad", call, w.errno, w.form, runs, last, acked, bad)
			if long && runs == 0 {
				t.Errorf("%s was never made to fail", call)
			}
		}
	}
}

// A tap whose outcome was unknown may come again after a new segment has begun
// behind it, and after a restart.
func TestSameTapIsOnePunchAcrossSegmentsAndFaults(t *testing.T) {
	o := Options{Dir: t.TempDir(), SegmentRecords: 4, ahead: 1 << 16}
	b := open(t, o)
	appendN(t, b, 0, 5)
	same := func(when string) {
		t.Helper()
		if err := b.Tidy(); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			if p, err := b.Append(draft(i)); err != nil || p.Seq != uint64(i+1) {
				t.Errorf("%s: tap %d became number %d, %v", when, i, p.Seq, err)
			}
		}
	}
	same("new segment")
	b.broken = errors.New("a sync has failed")
	same("read anew")
	b.Close()
	b = open(t, o)
	same("restart")
}

// A new segment whose folder could not be synced may be there: nothing more is
// written to the one before it, where it would not be found after a restart.
func TestNothingIsWrittenBesideASegmentThatIsThere(t *testing.T) {
	o := Options{Dir: t.TempDir(), SegmentRecords: 4, ahead: 1 << 16}
	b := open(t, o)
	appendN(t, b, 0, 5)
	// As if Tidy had been told of an error after the new one had got its name.
	c := carry{device: "test-1", prev: b.headHash, pos: map[string]position{"104": {}, "feishu": {}}}
	if err := createSegment(o.Dir, 6, c, b.opt); err != nil {
		t.Fatal(err)
	}
	b.broken = errors.New("the folder could not be synced")
	appendN(t, b, 5, 3)
	b.Close()
	b = open(t, o)
	if s := b.Stats(); s.LastSeq != 8 {
		t.Errorf("after a restart the last punch is number %d, 8 were acknowledged", s.LastSeq)
	}
}

// What a destination has answered is looked at behind the reading anew that a
// failed commit asks for, or it is forgotten and sent again.
func TestSettledAfterAFaultStaysSettled(t *testing.T) {
	b := open(t, Options{Dir: t.TempDir(), SegmentRecords: 4, ahead: 1 << 16})
	appendN(t, b, 0, 5)
	ps, err := b.Next("104", 3)
	if err != nil {
		t.Fatal(err)
	}
	b.broken = errors.New("a sync has failed")
	if err := b.Settle("104", accept(ps)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if ps, err = b.Next("104", 10); err != nil || seqs(ps) != "4 5" {
			t.Errorf("next %s, %v, want 4 5", seqs(ps), err)
		}
		if err := b.Tidy(); err != nil { // carried into a new segment
			t.Fatal(err)
		}
	}
}

// The negative control: a clock that takes an error for a success loses punches here.
func TestFaultsFindAClockThatTakesAnErrorForASuccess(t *testing.T) {
	lost := 0
	_, runs, _ := sweep(t, "fdatasync", "EIO", "N", 9, 18, []string{"OUTBOX_ACK=anyway"}, func(_ fault, o outcome) {
		if o.why["lost"] != "" {
			lost++
		}
	})
	t.Logf("%d of %d runs lost what they had acknowledged", lost, runs)
	if lost == 0 {
		t.Error("nothing is lost although every error was taken for a success: the faults prove nothing")
	}
}

// A read that fails once says nothing about the file. A page that can never be
// read again is lost, and the clock starts without it.
func TestFaultOfAReadIsNoDamageUntilItStays(t *testing.T) {
	const n = 60
	run := func(dir, when string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		// Reads of the outbox's file only.
		cmd := exec.CommandContext(ctx, "strace", "-f", "-qq", "-o", os.DevNull, "-P", segmentPath(dir, 1), "-e", "trace=pread64",
			"-e", "inject=pread64:error=EIO:when="+when, os.Args[0])
		cmd.Env = append(os.Environ(), "OUTBOX_CHILD="+dir, "OUTBOX_MODE=open", "GOMAXPROCS=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("reads %s fail: the clock does not start: %v\n%s", when, err, out)
		}
		return string(out)
	}
	for _, when := range []string{"1", "2", "3", "4"} {
		dir, _ := filled(t, n)
		if got := run(dir, when); got != fmt.Sprintf("%d \"\"\n", n) {
			t.Errorf("read %s failed once: %s", when, got)
		}
	}
	dir, _ := filled(t, n)
	if got := run(dir, "1..6"); !strings.Contains(got, "cannot be read") || !strings.Contains(got, fmt.Sprintf("%d punches taken over", n)) {
		t.Errorf("its beginning can never be read: %s", got)
	}
}
