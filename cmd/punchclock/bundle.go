package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"
)

// A support bundle is what whoever helps from afar wants to see: a tar archive,
// compressed, and encrypted to a key that only they can open (age-encryption.org, so
// that it opens with the program age too). It holds no secret, card, name or punch; it
// is encrypted all the same, because addresses and the habits of a site are nobody's
// business. It is made of what other verbs print, while the clock runs or not, and
// streamed: nothing of it is written to the card in the clear.

// supportConfig says whom support bundles are for.
type supportConfig struct {
	Key string // age1…, "" for nobody
}

func (v *supportConfig) read(s *section) {
	if s.text("key", &v.Key) && v.Key != "" {
		if _, err := age.ParseX25519Recipient(v.Key); err != nil {
			s.bad("key", "support.key is no public key of age", `write the line that begins with age1; age-keygen makes one, and the secret half stays with whoever helps`)
		}
	}
	s.done()
}

const (
	bundlePart    = 1 << 20  // a file in it; a longer journal is several
	bundleMost    = 16 << 20 // all of it, before it is compressed
	bundleLines   = 30_000   // of the journal, the newest first
	bundleSources = 30 * time.Second
)

const bundleREADME = `Support bundle of a punch clock, made by: punchclock support-bundle

version.json   the program
doctor.txt     what punchclock doctor says, doctor.json the same for programs
config.toml    the configuration in force; secrets are in files of their own, which are not here
status.json    how the running clock fares
metrics.txt    its counters
journal/       the newest lines of the clock and of the kernel's warnings, newest first
missing.txt    what could not be had, and why

There is no secret, no card's number, no name and no punch in it. It ends where it
would become larger than 16 MB.
`

func bundleCommand(t *tool) *cobra.Command {
	var output, to string
	var plain bool
	c := &cobra.Command{
		Use: "support-bundle", Short: "Write a file for whoever helps from afar", Args: cobra.NoArgs,
		Long: "Write a file for whoever helps from afar: doctor's report, configuration, status, metrics and the newest\n" +
			"lines of the journal. It is encrypted to support.key of the configuration, and opened with:\n" +
			"age -d -i KEY FILE | tar xz. No secret, card, name or punch is in it. As root, all of it can be had.",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, cfgErr := loadConfig(t.configPath, built())
			name := "punchclock"
			if cfgErr == nil {
				name += "-" + cfg.Device.ID
				if to == "" {
					to = cfg.Support.Key
				}
			}
			var recipient age.Recipient
			switch {
			case plain && c.Flags().Changed("to"):
				return usage("support-bundle: --to encrypts it and --plain does not: give one of them")
			case plain:
			case to == "" && cfgErr != nil:
				return usage("support-bundle: %w; name the key with --to, or write it --plain", cfgErr)
			case to == "":
				return usage("support-bundle: support.key is empty: name the key with --to, or write it --plain, readable for everybody")
			default:
				var err error
				if recipient, err = age.ParseX25519Recipient(to); err != nil {
					return usage("support-bundle: --to %q is no public key of age; it begins with age1", to)
				}
			}
			if output == "" {
				output = fmt.Sprintf("%s-%s.tar.gz", name, time.Now().UTC().Format("20060102-150405"))
				if recipient != nil {
					output += ".age"
				}
			}
			if err := t.toOutput(output, func(w io.Writer) error { return t.bundle(c.Context(), w, recipient, cfg, cfgErr) }); err != nil {
				return fmt.Errorf("support-bundle: %w", err)
			}
			_, err := fmt.Fprintln(t.stdout, output)
			return err
		},
	}
	c.Flags().StringVar(&output, "output", "", "write to this `file`; otherwise to one named after the clock and the time")
	c.Flags().StringVar(&to, "to", "", "encrypt to this public `key` of age, instead of support.key")
	c.Flags().BoolVar(&plain, "plain", false, "do not encrypt")
	return c
}

// bundle writes it. What cannot be had is said in it.
func (t *tool) bundle(ctx context.Context, w io.Writer, to age.Recipient, cfg *config, cfgErr error) error {
	ends := []func() error{}
	if to != nil {
		sealed, err := age.Encrypt(w, to)
		if err != nil {
			return err
		}
		w, ends = sealed, append(ends, sealed.Close)
	}
	zip := gzip.NewWriter(w)
	tape := tar.NewWriter(zip)
	ends = append(ends, zip.Close, tape.Close)
	b := &bundleWriter{tape: tape, now: time.Now()}
	if cfg != nil {
		b.hide = secretsOf(cfg)
	}
	b.file("README.txt", strings.NewReader(bundleREADME))
	b.json("version.json", map[string]string{"version": version, "go": goVersion(), "platform": platform()})

	limited, cancel := context.WithTimeout(ctx, doctorLimit)
	defer cancel()
	r := t.doctor(limited, thisMachine())
	var text bytes.Buffer
	r.print(&text, false) // into memory
	b.file("doctor.txt", &text)
	b.json("doctor.json", r)

	switch {
	case cfgErr != nil:
		b.miss("config.toml", cfgErr)
	default:
		var shown bytes.Buffer
		if err := cfg.show(&shown); err != nil {
			return err
		}
		b.file("config.toml", &shown)
		b.ask(ctx, cfg)
	}
	b.journal(ctx, "punchclock", "-u", "punchclock.service", "-u", "punchclock-logs.service", "-u", "punchclock-provision.service")
	b.journal(ctx, "kernel", "-k", "-p", "warning")
	if len(b.missed) > 0 {
		b.file("missing.txt", strings.NewReader(strings.Join(b.missed, "\n")+"\n"))
	}
	err := b.err
	for i := len(ends) - 1; i >= 0; i-- {
		err = errors.Join(err, ends[i]())
	}
	return err
}

// secretsOf are the secrets that can be read here. None is in anything that is
// written; should that be wrong one day, it is not in a bundle.
func secretsOf(cfg *config) (hide []string) {
	paths := []string{}
	for _, d := range cfg.Destinations {
		paths = append(paths, d.secretFiles(cfg)...)
	}
	for _, name := range []string{cfg.Roster.TokenFile, cfg.Candidates.SecretFile} {
		if name != "" {
			paths = append(paths, cfg.secretPath(name))
		}
	}
	for _, path := range paths {
		if s, err := readSecret(path); err == nil && len(s) >= 6 {
			hide = append(hide, s)
		}
	}
	return hide
}

// bundleWriter writes files until there is enough, and remembers the first error.
type bundleWriter struct {
	tape   *tar.Writer
	now    time.Time
	hide   []string
	size   int
	missed []string
	err    error
}

func (b *bundleWriter) miss(name string, err error) {
	b.missed = append(b.missed, fmt.Sprintf("%s: %v", name, err))
}

func (b *bundleWriter) json(name string, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		b.miss(name, err)
		return
	}
	b.file(name, bytes.NewReader(append(text, '\n')))
}

// file writes one part, cut where it is too long.
func (b *bundleWriter) file(name string, r io.Reader) {
	text, err := io.ReadAll(io.LimitReader(r, bundlePart+1))
	if err != nil {
		b.miss(name, err)
	}
	if len(text) > bundlePart {
		text = text[:bundlePart]
		b.miss(name, fmt.Errorf("cut at %d bytes", bundlePart))
	}
	b.part(name, text)
}

func (b *bundleWriter) part(name string, text []byte) {
	for _, secret := range b.hide {
		text = bytes.ReplaceAll(text, []byte(secret), []byte("[secret]"))
	}
	if b.err != nil || b.full(len(text)) {
		return
	}
	b.size += len(text)
	if b.err = b.tape.WriteHeader(&tar.Header{Name: "punchclock/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: b.now}); b.err == nil {
		_, b.err = b.tape.Write(text)
	}
}

func (b *bundleWriter) full(more int) bool { return b.size+more > bundleMost }

// ask has the running clock tell.
func (b *bundleWriter) ask(ctx context.Context, cfg *config) {
	cl, err := dialControl(cfg)
	if err != nil {
		b.miss("status.json, metrics.txt", err)
		return
	}
	defer cl.close()
	ctx, cancel := context.WithTimeout(ctx, bundleSources)
	defer cancel()
	for name, path := range map[string]string{"status.json": "/status", "metrics.txt": "/metrics"} {
		body, err := cl.do(ctx, "GET", path, nil, nil)
		if err != nil {
			b.miss(name, err)
			continue
		}
		b.file(name, body)
		body.Close()
	}
}

// journal writes the newest lines as parts of a megabyte, each line whole.
func (b *bundleWriter) journal(ctx context.Context, name string, which ...string) {
	ctx, cancel := context.WithTimeout(ctx, bundleSources)
	defer cancel()
	args := append([]string{"--no-pager", "--quiet", "--reverse", "--lines", fmt.Sprint(bundleLines), "--output", "short-iso-precise"}, which...)
	cmd := exec.CommandContext(ctx, "journalctl", args...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.miss("journal/"+name, err)
		return
	}
	var part bytes.Buffer
	n := 0
	put := func() {
		if part.Len() > 0 {
			n++
			b.part(fmt.Sprintf("journal/%s-%02d.txt", name, n), part.Bytes())
			part.Reset()
		}
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, bundlePart/2)
	for lines.Scan() {
		if part.Len()+len(lines.Bytes()) >= bundlePart {
			put()
		}
		if b.full(part.Len()) {
			b.miss("journal/"+name, fmt.Errorf("older lines, for the bundle would become larger than %d bytes", bundleMost))
			part.Reset()
			break
		}
		part.Write(lines.Bytes())
		part.WriteByte('\n')
	}
	put()
	err = lines.Err()
	cancel() // it may have more to say
	if werr := cmd.Wait(); err == nil && n == 0 {
		err = werr
	}
	if err != nil {
		b.miss("journal/"+name, err)
	}
}
