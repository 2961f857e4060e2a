package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// raucHouse makes bundles with the product's own script and serves one.
type raucHouse struct {
	t       *testing.T
	dir     string
	gate    *gate
	in      *raucUpdates
	offered []byte
	fetched int
}

func newRaucHouse(t *testing.T) *raucHouse {
	t.Helper()
	for _, tool := range []string{"rauc", "mksquashfs", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: run make deps", tool)
		}
	}
	h := &raucHouse{t: t, dir: t.TempDir()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(h.offered)))
		if r.Header.Get("If-None-Match") == "" {
			h.fetched++
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(h.offered))
	}))
	t.Cleanup(server.Close)
	h.write("version", "2.0\n")
	h.write("source", server.URL+"\n")
	slot := make([]byte, 1<<20) // nothing that would get smaller
	rand.NewChaCha8([32]byte{}).Read(slot)
	h.write("slot", string(slot))
	h.key("ours")
	h.write("system.conf", "[system]\ncompatible=punchclock-pi-arm64\nbootloader=noop\n[keyring]\npath="+h.path("ours.cert")+"\nuse-bundle-signing-time=true\n")
	state := h.path("state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	h.in = &raucUpdates{state, h.path("version"), h.path("source"), h.path("system.conf"), server.Client(), callRauc}
	h.gate = &gate{in: h.in, dir: state, log: slog.New(slog.DiscardHandler), boot: "one", fit: func(context.Context) error { return nil }}
	return h
}

func (h *raucHouse) path(name string) string { return filepath.Join(h.dir, name) }

func (h *raucHouse) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *raucHouse) run(name string, args ...string) {
	h.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		h.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// key makes a key and its certificate.
func (h *raucHouse) key(name string) {
	h.t.Helper()
	h.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN="+name,
		"-keyout", h.path(name+".key"), "-out", h.path(name+".cert"))
}

// bundle makes one of the slot. edit changes the manifest that is signed.
func (h *raucHouse) bundle(version, key string, edit ...string) []byte {
	h.t.Helper()
	script := "../../systemd/image/bundle.sh"
	if len(edit) > 0 {
		b, err := os.ReadFile(script)
		if err != nil {
			h.t.Fatal(err)
		}
		text := strings.NewReplacer(edit...).Replace(string(b))
		if text == string(b) {
			h.t.Fatalf("%q is not in %s", edit[0], script)
		}
		script = h.path("edited.sh")
		h.write("edited.sh", strings.ReplaceAll(text, `$(dirname "$0")`, mustAbs(h.t, "../../systemd/image")))
	}
	h.run("bash", script, h.path("slot"), version, h.path(key+".cert"), h.path(key+".key"), h.path("bundle"))
	b, err := os.ReadFile(h.path("bundle"))
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

func TestBadBundlesAreRefusedEachForItsReason(t *testing.T) {
	h := newRaucHouse(t)
	h.key("stranger")
	good := h.bundle("2.1", "ours")
	shape, err := measureBundle(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	changed := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	if err := h.gate.save(&updateState{Schema: updateSchema, Failed: map[string]string{"2.9": "no punch could be stored"}}, ""); err != nil {
		t.Fatal(err)
	}
	details := map[string]string{}
	for _, c := range []struct {
		name, reason string
		offered      []byte
	}{
		{"of an older version", refusedLower, h.bundle("1.9", "ours")},
		{"of a version that went back", refusedFailed, h.bundle("2.9", "ours")},
		{"for another board", refusedMachine, h.bundle("2.1", "ours", "compatible=$(sed", "compatible=other-$(sed")},
		{"without a signature", refusedUnsigned, good[:shape.data]},
		{"of a stranger", refusedKey, h.bundle("2.1", "stranger")},
		{"cut off", refusedCut, good[:len(good)/2]},
		{"cut off within its signature", refusedCut, good[:len(good)-100]},
		{"with something behind it", refusedCut, append(bytes.Clone(good), make([]byte, 9000)...)},
		{"with another byte in its payload", refusedAltered, changed(int(shape.data / 2))},
		{"with another byte in its signature", refusedKey, changed(len(good) - 40)},
		{"that holds something else", refusedPayload, h.bundle("2.1", "ours", "slot.img", "other.img")},
		{"that is a web page", refusedPayload, []byte("<html>" + strings.Repeat("log in to the guest network ", 1000))},
	} {
		h.offered = c.offered
		_, version, err := h.gate.look(t.Context(), false)
		var refused *refusal
		if !errors.As(err, &refused) || refused.Reason != c.reason || version != "" {
			t.Errorf("a bundle %s: version %q, %v; want it refused as %s", c.name, version, err, c.reason)
			continue
		}
		details[refused.Reason] = refused.Detail
		if refused.Remedy == "" {
			t.Errorf("a bundle %s: what to do is not said", c.name)
		}
	}
	if len(details) < 8 {
		t.Errorf("%d reasons are told apart, want 8", len(details))
	}

	h.offered = good
	if _, version, err := h.gate.look(t.Context(), false); err != nil || version != "2.1" {
		t.Fatalf("a good bundle: version %q, %v", version, err)
	}
	h.fetched = 0
	if _, version, err := h.gate.look(t.Context(), false); err != nil || version != "2.1" || h.fetched != 0 {
		t.Errorf("the same bundle again: version %q, %v, fetched %d times; want it known", version, err, h.fetched)
	}
}

// What U-Boot is told, through RAUC, at each way an update can end.
func TestUBootIsToldWhichSlotStays(t *testing.T) {
	for _, c := range []struct {
		what    string
		running string
		do      func(context.Context, *raucUpdates) error
		want    []string
	}{
		{"before an update", "1", func(ctx context.Context, r *raucUpdates) error { return r.Keep(ctx, "1") }, []string{"rauc status mark-good"}},
		{"a proven version", "2", func(ctx context.Context, r *raucUpdates) error { return r.Good(ctx, "2") }, []string{"rauc status mark-good"}},
		{"back, from the new version", "2", func(ctx context.Context, r *raucUpdates) error { return r.Back(ctx, "1") }, []string{"rauc status mark-bad booted", "systemctl reboot"}},
		{"back, where U-Boot already went", "1", func(ctx context.Context, r *raucUpdates) error { return r.Back(ctx, "1") },
			[]string{"rauc status mark-active booted", "rauc status mark-good"}},
	} {
		version := filepath.Join(t.TempDir(), "version")
		if err := os.WriteFile(version, []byte(c.running+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, down := context.WithCancel(t.Context())
		var called []string
		r := &raucUpdates{version: version, call: func(_ context.Context, program string, args ...string) (string, error) {
			called = append(called, program+" "+strings.Join(args, " "))
			if program == "systemctl" {
				down() // what the machine does to us
			}
			return "", nil
		}}
		if err := c.do(ctx, r); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", c.what, err)
		}
		if !slices.Equal(called, c.want) {
			t.Errorf("%s: called %q, want %q", c.what, called, c.want)
		}
		down()
	}
}

func FuzzBundleShape(f *testing.F) {
	f.Add([]byte("hsqs"))
	f.Add(append([]byte("hsqs"), make([]byte, 9000)...))
	short := make([]byte, 3*raucBlock)
	copy(short, "hsqs")
	short[41] = 0x10 // one block
	f.Add(short)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := measureBundle(bytes.NewReader(b))
		var refused *refusal
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("%v: what comes from outside is refused", err)
		}
		if err == nil && (s.data <= 0 || s.data+s.hashes+8 >= int64(len(b))) {
			t.Fatalf("%+v does not lie within %d bytes", s, len(b))
		}
	})
}
