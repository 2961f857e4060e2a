package queue

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"punchclock/queue/punch"
)

// TestMain also is the process that gets killed: it appends as fast as it can and
// prints each tap once it is acknowledged.
func TestMain(m *testing.M) {
	if dir := os.Getenv("OUTBOX_CHILD"); dir != "" {
		var err error
		switch os.Getenv("OUTBOX_MODE") {
		case "states":
			err = statesChild(dir)
		case "fault":
			err = faultChild(dir)
		case "open": // once, and tell what had to be mended
			runtime.LockOSThread() // strace counts the reads of each thread apart
			var b *Outbox
			if b, err = Open(Options{Dir: dir, Device: "test-1", Destinations: []string{"104", "feishu"}, ahead: 1 << 16}); err == nil {
				fmt.Printf("%d %q\n", b.Stats().LastSeq, b.Incident())
				err = b.Close()
			}
		default:
			err = child(dir, os.Getenv("OUTBOX_ACK") == "early")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(dir string, early bool) error {
	b, err := Open(Options{Dir: dir, Device: "kill", Destinations: []string{"104"}, SegmentRecords: 150, ahead: 1 << 18, Mirror: os.Getenv("OUTBOX_MIRROR")})
	if err != nil {
		return err
	}
	from, _ := strconv.Atoi(os.Getenv("OUTBOX_FROM"))
	var wg sync.WaitGroup
	var mu sync.Mutex
	go b.Run(context.Background())
	go func() { // a destination that settles what it finds
		for {
			c := b.Changed()
			if ps, err := b.Next("104", 7); err == nil && len(ps) > 0 {
				b.Settle("104", accept(ps))
				continue
			}
			<-c
		}
	}()
	for lane := range 3 {
		wg.Go(func() {
			for i := from + lane; ; i += 3 {
				if early { // the negative control: promised before it is kept
					mu.Lock()
					fmt.Println(i)
					mu.Unlock()
				}
				if _, err := b.Append(draft(i)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				if !early {
					mu.Lock()
					fmt.Println(i)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return nil
}

// killRounds kills a writing process n times at random moments and returns how
// many acknowledged punches are missing, and how many are there twice.
func killRounds(t *testing.T, n int, ack string) (acked, lost, twice int) {
	t.Helper()
	dir := t.TempDir()
	promised := map[int]bool{}
	from := 0
	for round := range n {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "OUTBOX_CHILD="+dir, "OUTBOX_ACK="+ack, "OUTBOX_FROM="+strconv.Itoa(from))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs strings.Builder
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		sc := bufio.NewScanner(out)
		first := true
		for sc.Scan() {
			i, err := strconv.Atoi(sc.Text())
			if err != nil {
				t.Fatalf("child says %q", sc.Text())
			}
			promised[i] = true
			from = max(from, i+3)
			if first {
				first = false
				after := time.Duration(rand.IntN(60_000)) * time.Microsecond
				time.AfterFunc(after, func() { cmd.Process.Kill() })
			}
		}
		io.Copy(io.Discard, out)
		cmd.Wait()
		if first {
			t.Fatalf("round %d: the clock did not start: %s", round, errs.String())
		}
	}
	b, err := Open(Options{Dir: dir, Device: "kill", Destinations: []string{"104"}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if s := b.Incident(); s != "" {
		t.Errorf("a kill is no damage: %s", s)
	}
	check(t, b)
	there := map[punch.Badge]int{}
	if err := b.Read(context.Background(), 1, func(e Entry) error { there[e.Badge]++; return nil }); err != nil {
		t.Fatal(err)
	}
	for i := range promised {
		switch there[draft(i).Badge] {
		case 0:
			lost++
		case 1:
		default:
			twice++
		}
	}
	return len(promised), lost, twice
}

func TestAcknowledgedPunchSurvivesKill(t *testing.T) {
	n := 12
	if v := os.Getenv("KILLS"); v != "" {
		n, _ = strconv.Atoi(v)
	}
	acked, lost, twice := killRounds(t, n, "")
	t.Logf("%d kills, %d punches acknowledged, %d lost, %d twice", n, acked, lost, twice)
	if lost > 0 || twice > 0 || acked < n {
		t.Errorf("%d kills: %d of %d acknowledged punches lost, %d stored twice", n, lost, acked, twice)
	}
}

// The negative control: a clock that beeps before the commit loses punches here,
// so the test above can fail.
func TestKillTestFindsAClockThatPromisesTooEarly(t *testing.T) {
	acked, lost, _ := killRounds(t, 12, "early")
	t.Logf("%d promised, %d lost", acked, lost)
	if lost == 0 {
		t.Error("nothing was lost although every promise came before the commit: the kill test proves nothing")
	}
}
