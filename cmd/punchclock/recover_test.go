package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"punchclock/queue"
	"punchclock/queue/punch"
)

// worn makes a state directory with n punches and their second copy, as a clock that
// was switched off has left it.
func worn(t *testing.T, n int) (config, state string) {
	t.Helper()
	dir := t.TempDir()
	state, config = filepath.Join(dir, "state"), filepath.Join(dir, "desk.toml")
	text := fmt.Sprintf("schema = 1\n[device]\nid = \"desk\"\nstate_dir = %q\n", state)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig(config, built())
	if err != nil {
		t.Fatal(err)
	}
	stamp := punch.Stamp{Wall: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC), Clock: punch.Synced}
	b, err := openOutbox(cfg, newLogger(&bytes.Buffer{}), func() punch.Stamp { return stamp }, &directory{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := b.Append(punch.Draft{Tap: punch.Tap{byte(i), 1}, Kind: punch.In, Badge: "em:0A1B2C3D4E", Employee: "000123", Reader: "front", Outcome: punch.Stored, Stamp: stamp}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	cancel() // at the end it writes what was gathered
	<-done
	if m := b.Stats().Mirror; m.Behind != 0 || m.Err != nil {
		t.Fatalf("second copy: %+v", m)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return config, state
}

func verb(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Main(t.Context(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestRecoverBringsTheOutboxBackFromItsSecondCopy(t *testing.T) {
	config, state := worn(t, 12)
	if err := os.Remove(filepath.Join(state, "outbox", "000000000001.db")); err != nil {
		t.Fatal(err)
	}
	code, out, errs := verb(t, "recover", "--config", config)
	for _, want := range []string{"12 punches brought back", "offered to every destination again", "better sent twice than not at all", "numbers 1 to 12", "no punch has a number from 13 to"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d, %q is not said:\n%s%s", code, want, out, errs)
		}
	}
	if code, out, errs := verb(t, "punches", "export", "--config", config); code != 0 || strings.Count(out, "\n") != 12 || !strings.Contains(out, `"employee_no":"000123"`) {
		t.Errorf("export: exit code %d\n%s%s", code, out, errs)
	}
	// It may be repeated, and finds nothing more to do.
	var rep recoverReport
	code, out, errs = verb(t, "recover", "--config", config, "--json")
	if err := json.Unmarshal([]byte(out), &rep); err != nil || code != 0 || rep.Taken != 0 || rep.Records != 12 || len(rep.Missing) != 1 {
		t.Errorf("again: exit code %d, %v\n%s%s", code, err, out, errs)
	}
}

func TestRecoverTakesACopyFromAnotherCard(t *testing.T) {
	config, state := worn(t, 7)
	away := filepath.Join(t.TempDir(), "card")
	if err := os.Rename(filepath.Join(state, "outbox", "mirror"), away); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(state); err != nil { // a new card
		t.Fatal(err)
	}
	month := filepath.Join(away, "2026-11.txt")
	text, err := os.ReadFile(month)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1 // and the old one was not in a good way
	if err := os.WriteFile(month, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := verb(t, "recover", "--config", config); code != exitUnchecked || !strings.Contains(errs, "--from") {
		t.Errorf("with nothing to go by: exit code %d, %s", code, errs)
	}
	code, out, errs := verb(t, "recover", "--config", config, "--from", away)
	for _, want := range []string{"6 punches brought back", "no punch has a number from 4 to 4", "1 lines of the copies are torn or damaged"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d, %q is not said:\n%s%s", code, want, out, errs)
		}
	}
	if code, out, _ := verb(t, "verify", "--config", config); code != exitFailed || !strings.Contains(out, "punches 4 to 4 before it are missing") {
		t.Errorf("verify: exit code %d\n%s", code, out)
	}
}

func TestRecoverRefusesWhatIsNotToBeRecovered(t *testing.T) {
	config, state := worn(t, 2)
	if code, _, errs := verb(t, "recover", "--config", config, "--from", filepath.Join(state, "nowhere")); code != exitUsage || !strings.Contains(errs, "nowhere") {
		t.Errorf("a copy that is not there: exit code %d, %s", code, errs)
	}
	if code, _, errs := verb(t, "recover", "--config", config, "--from", t.TempDir()); code != exitFailed || !strings.Contains(errs, "holds no punch of device desk") {
		t.Errorf("an empty copy: exit code %d, %s", code, errs)
	}
	if code, _, _ := verb(t, "recover", "--config", config, "now"); code != exitUsage {
		t.Errorf("an argument: exit code %d", code)
	}
	b, err := queue.Open(queue.Options{Dir: filepath.Join(state, "outbox"), Device: "desk"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if code, _, errs := verb(t, "recover", "--config", config); code != exitFailed || !strings.Contains(errs, "stop it first") {
		t.Errorf("beside a running clock: exit code %d, %s", code, errs)
	}
}
