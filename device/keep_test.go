package device

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestADeviceThatIsGoneIsToldOnceAndOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		out := make(chan Event, 64)
		began := time.Now()
		var opened []string
		n := 0
		Keep(ctx, "front", slog.New(slog.NewTextHandler(&log, nil)), out, func(ctx context.Context, up func()) error {
			n++
			opened = append(opened, fmt.Sprint(time.Since(began).Milliseconds()))
			switch n {
			case 1, 2:
				return errors.New("no such device")
			case 3:
				return errors.New("no permission")
			case 4:
				up()
				time.Sleep(time.Second)
				return errors.New("unplugged")
			case 5:
				return errors.New("no such device")
			}
			up()
			<-ctx.Done()
			return ctx.Err()
		})
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
		close(out)
		var got []string
		for ev := range out {
			got = append(got, fmt.Sprintf("%d %v", ev.Last.Sub(began).Milliseconds(), ev.What))
			if ev.Reader != "front" || (ev.What == Down) != (ev.Err != nil) {
				t.Errorf("%+v", ev)
			}
		}
		if s := strings.Join(got, ", "); s != "0 down, 1400 up, 2400 down, 3000 up" {
			t.Errorf("told %s", s)
		}
		if s := strings.Join(opened, " "); s != "0 200 600 1400 2600 3000" {
			t.Errorf("opened at %s", s)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "no permission") {
			t.Errorf("log:\n%s", log.String())
		}
	})
}

func TestTheLogHearsOfAChangingReasonOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		out := make(chan Event, 64)
		n := 0
		Keep(ctx, "front", slog.New(slog.NewTextHandler(&log, nil)), out, func(context.Context, func()) error {
			if n++; time.Until(deadline(ctx)) < 10*time.Minute {
				return errors.New("what stays")
			}
			return fmt.Errorf("version %d", n)
		})
		if n < 3000 || len(out) != 1 {
			t.Errorf("%d tries, told %d times", n, len(out))
		}
		lines := strings.Count(log.String(), "\n")
		if lines < 45 || lines > 60 {
			t.Errorf("%d lines in an hour", lines)
		}
		if n := strings.Count(log.String(), "what stays"); n != 1 || !strings.Contains(log.String()[strings.LastIndex(log.String(), "msg="):], "what stays") {
			t.Errorf("what it is in the end is said %d times", n)
		}
	})
}

func deadline(ctx context.Context) time.Time {
	at, _ := ctx.Deadline()
	return at
}
