package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

// opened returns the files of a bundle; id is nil for one that is not encrypted.
func opened(t *testing.T, path string, id age.Identity) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return openedBytes(t, b, id)
}

func openedBytes(t *testing.T, b []byte, id age.Identity) map[string]string {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	var err error
	if id != nil {
		if r, err = age.Decrypt(r, id); err != nil {
			t.Fatal(err)
		}
	}
	if r, err = gzip.NewReader(r); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for tape := tar.NewReader(r); ; {
		head, err := tape.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(tape)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(head.Name, "punchclock/")] = string(text)
	}
}

func TestSupportBundleOpensForNobodyElse(t *testing.T) {
	mine, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, settings{extra: fmt.Sprintf("[support]\nkey = %q\n", mine.Recipient())})
	path := filepath.Join(h.dir, "bundle.age")
	// No daemon.
	if out, code := h.run("support-bundle", "--config", h.config, "--output", path); code != 0 || !strings.Contains(out, path) {
		t.Fatalf("%d %s", code, out)
	}
	files := opened(t, path, mine)
	for name, want := range map[string]string{"README.txt": "Support bundle", "version.json": `"version": "test"`, "doctor.txt": "test-door", "doctor.json": `"schema": 1`,
		"config.toml": "client_secret_file", "missing.txt": "status.json, metrics.txt: no punchclock runs"} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s lacks %q: %q", name, want, files[name])
		}
	}
	// Beside the clock.
	h.start()
	h.tap(h.people[0])
	if out, code := h.run("support-bundle", "--config", h.config, "--output", path); code != 0 {
		t.Fatalf("%d %s", code, out)
	}
	files = opened(t, path, mine)
	for name, want := range map[string]string{"status.json": `"last_seq":1`, "metrics.txt": `punchclock_punches_total{kind="in",outcome="stored",reader="front"} 1`} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s lacks %q: %q", name, want, files[name])
		}
	}
	for name := range files {
		if name != "README.txt" && !strings.Contains(files["README.txt"], strings.SplitAfter(name, "/")[0]) {
			t.Errorf("README.txt does not say what %s is", name)
		}
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := age.Decrypt(f, other); err == nil {
		t.Error("it opens with another key")
	}

	// Nobody to encrypt it to, and a configuration that is wrong, which is when help is
	// asked for.
	broken := h.write("broken.toml", "schema = 1\n[device]\nid = 7\n")
	for _, tc := range []struct {
		args []string
		code int
		id   age.Identity
	}{
		{[]string{"--config", broken}, exitUsage, nil},
		{[]string{"--config", broken, "--to", "age1nonsense"}, exitUsage, nil},
		{[]string{"--config", broken, "--to", other.Recipient().String()}, 0, other},
		{[]string{"--config", broken, "--plain"}, 0, nil},
		{[]string{"--config", broken, "--plain", "--to", other.Recipient().String()}, exitUsage, nil},
	} {
		os.Remove(path)
		out, code := h.run(append([]string{"support-bundle", "--output", path}, tc.args...)...)
		if code != tc.code {
			t.Errorf("%v: %d %s", tc.args, code, out)
		}
		if tc.code != 0 {
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%v: there is a file", tc.args)
			}
			continue
		}
		if files := opened(t, path, tc.id); !strings.Contains(files["missing.txt"], "config.toml: "+broken+":3:6") {
			t.Errorf("%v: %q", tc.args, files["missing.txt"])
		}
	}
}

func TestSupportBundleEndsWhereItWouldBecomeTooLarge(t *testing.T) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	b := &bundleWriter{tape: tar.NewWriter(zip), hide: []string{"canary-secret"}}
	b.file("long", io.LimitReader(rand.NewChaCha8([32]byte{}), 3*bundlePart))
	for n := range 40 {
		b.part(fmt.Sprint("journal/", n), bytes.Repeat([]byte("with canary-secret in it\n"), bundlePart/25))
	}
	b.file("broken", io.MultiReader(strings.NewReader("half of it"), &failingReader{}))
	if err := errors.Join(b.err, b.tape.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	files, size := openedBytes(t, out.Bytes(), nil), 0
	for name, text := range files {
		size += len(text)
		if strings.Contains(text, "canary") {
			t.Errorf("the secret is in %s", name)
		}
	}
	if size > bundleMost || size < bundleMost-2*bundlePart || len(files["long"]) != bundlePart || files["broken"] != "half of it" {
		t.Errorf("%d bytes in %d files", size, len(files))
	}
	if missed := strings.Join(b.missed, "\n"); !strings.Contains(missed, "long: cut at") || !strings.Contains(missed, "broken: the disk") {
		t.Errorf("%s", missed)
	}
}

type failingReader struct{}

func (*failingReader) Read([]byte) (int, error) { return 0, errors.New("the disk") }
