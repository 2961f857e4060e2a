package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
	"github.com/spf13/cobra"
)

// flash writes cards: the image, read back and compared; then, on the partition that
// any computer can read, the clock's own punchclock.toml with its secrets, as a
// technician would put them there. The clock takes them in when it first starts.

// flasher is one run.
type flasher struct {
	t       *tool
	image   string
	device  string
	config  string
	ids     string
	labels  string
	count   int
	anyDisk bool
	yes     bool

	open func(path string) (medium, error)
	disk disks
}

func flashCommand(t *tool) *cobra.Command {
	f := &flasher{t: t, open: openDisk, disk: theseDisks}
	c := &cobra.Command{
		Use: "flash", Short: "Write memory cards for clocks: the image, and each clock's own configuration", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.config = t.configPath; f.image == "" || f.device == "" {
				return usage("flash: name the image with --image and the card's disk with --device; lsblk lists the disks")
			}
			return f.run(c.Context())
		},
	}
	c.Flags().StringVar(&f.image, "image", "", "the clock's image `file`: .img, also .gz, .xz or .zst")
	c.Flags().StringVar(&f.device, "device", "", "the card's `disk`, for example /dev/sdb; everything on it is lost")
	c.Flags().IntVar(&f.count, "count", 1, "how many cards to write, one after another")
	c.Flags().StringVar(&f.ids, "ids", "", "device ids of the cards: a `pattern` such as tpe-1f-##, where # is a digit, or a CSV file with the columns id and name")
	c.Flags().StringVar(&f.labels, "labels", "punchclock-labels.html", "the `file` of labels to print; it grows, and an id that is on it is not given out again")
	c.Flags().BoolVar(&f.anyDisk, "any-disk", false, "also a disk that cannot be taken out or is larger than 256 GB; never one in use")
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask before the first card")
	return c
}

// clockCard is what one card is to get.
type clockCard struct {
	label label
	files map[string][]byte // by name on the card
}

func (f *flasher) run(ctx context.Context) error {
	sheet, err := readLabels(f.labels)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	cards, err := f.cards(sheet)
	if err != nil {
		return err
	}
	if _, err := exec.LookPath("mcopy"); err != nil {
		return fmt.Errorf("flash: %w: it puts the configuration on the card; on Debian: apt-get install mtools", err)
	}
	answers := bufio.NewScanner(f.t.stdin)
	ask := func(format string, args ...any) bool {
		fmt.Fprintf(f.t.stderr, format, args...)
		return answers.Scan()
	}
	for i, card := range cards {
		if i > 0 || !f.yes {
			if !ask("Card %d of %d, for %s, into %s; everything on it is lost. Enter to write, Ctrl-C to stop: ", i+1, len(cards), card.label.ID, f.device) {
				return fmt.Errorf("flash: nobody answered: %d of %d cards are written", i, len(cards))
			}
		}
		for i > 0 && f.still(cards[i-1]) {
			if !ask("This is still the card of %s. Put the next one in, then Enter: ", cards[i-1].label.ID) {
				return fmt.Errorf("flash: nobody answered: %d of %d cards are written", i, len(cards))
			}
		}
		if err := f.write(ctx, &card); err != nil {
			return fmt.Errorf("flash: card %d of %d, for %s: %w", i+1, len(cards), card.label.ID, err)
		}
		sheet = append(sheet, card.label)
		if err := writeLabels(f.labels, sheet); err != nil {
			return fmt.Errorf("flash: the card of %s is written, its label is not: %w", card.label.ID, err)
		}
		fmt.Fprintf(f.t.stdout, "%s  %s  written and read back\n", card.label.ID, card.label.Fingerprint)
	}
	fmt.Fprintf(f.t.stdout, "labels: %s\n", f.labels)
	return nil
}

// still reports whether the card in the device is one that was just written.
func (f *flasher) still(last clockCard) bool {
	card, err := f.open(f.device)
	if err != nil {
		return false
	}
	defer card.Close()
	if card.Forget() != nil {
		return false
	}
	at, err := bootPartition(card)
	if err != nil {
		return false
	}
	b, err := fat{f.device, at}.get(cardName)
	return err == nil && bytes.Equal(b, last.files[cardName])
}

const cardName = "punchclock.toml"

// write writes one card and sees that it reads back.
func (f *flasher) write(ctx context.Context, c *clockCard) error {
	if err := f.disk.check(f.device, f.anyDisk); err != nil {
		return &exitError{exitUsage, err}
	}
	image, size, err := openImage(ctx, f.image)
	if err != nil {
		return err
	}
	defer image.Close()
	card, err := f.open(f.device)
	if err != nil {
		return err
	}
	// It stays open for us alone to the end: a desktop would mount the new partitions
	// as soon as it could, and write to them.
	err = f.fill(ctx, c, image, size, card)
	return errors.Join(err, card.Close())
}

func (f *flasher) fill(ctx context.Context, c *clockCard, image *packed, size int64, card medium) error {
	written, read := f.t.progress("MB written", uint64(size>>20)), f.t.progress("MB read back", uint64(size>>20))
	n, sha, err := writeImage(ctx, image, card, func(n int64) { written.at(uint64(n >> 20)) }, func(n int64) { read.at(uint64(n >> 20)) })
	written.end()
	read.end()
	if err = errors.Join(err, image.Close()); err != nil { // a packed image that was cut off is known only now
		return err
	}
	c.label.Image = fmt.Sprintf("%s, %s, sha256 %s…", filepath.Base(f.image), inBytes(n), sha[:12])
	at, err := bootPartition(card)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(c.files))
	part := fat{f.device, at}
	for _, name := range names {
		if err := part.put(name, c.files[name]); err != nil {
			return fmt.Errorf("put %s on the card: %w", name, err)
		}
	}
	if err := errors.Join(card.Sync(), card.Forget()); err != nil {
		return gone(err)
	}
	for _, name := range names {
		if b, err := part.get(name); err != nil {
			return gone(fmt.Errorf("read back %s: %w", name, err))
		} else if !bytes.Equal(b, c.files[name]) {
			return fmt.Errorf("%s reads back as something else: the card is bad; use another one", name)
		}
	}
	return nil
}

// packed is an image that a program unpacks.
type packed struct {
	io.Reader
	file *os.File
	cmd  *exec.Cmd // nil for none
	said bytes.Buffer
	done bool
}

func (p *packed) Close() error {
	if p.done {
		return nil
	}
	p.done = true
	err := p.file.Close()
	if p.cmd == nil {
		return err
	}
	if n, _ := p.Read(make([]byte, 1)); n > 0 { // nobody wants the rest
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		return err
	}
	if werr := p.cmd.Wait(); werr != nil {
		return fmt.Errorf("unpack the image: %w: %s; fetch it again", werr, strings.TrimSpace(p.said.String()))
	}
	return err
}

// wholeReader tells an image that was cut off from its end.
type wholeReader struct{ r io.Reader }

func (w wholeReader) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it was cut off")
	}
	return n, err
}

// openImage opens an image and says how large it is, 0 for one that is packed.
func openImage(ctx context.Context, path string) (*packed, int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, &exitError{exitUsage, err}
	}
	p := &packed{Reader: file, file: file}
	tool := ""
	switch filepath.Ext(path) {
	case ".gz":
		z, err := gzip.NewReader(file)
		if err != nil {
			file.Close()
			return nil, 0, fmt.Errorf("unpack the image: %w; fetch it again", err)
		}
		p.Reader = wholeReader{z}
		return p, 0, nil
	case ".xz":
		tool = "xz"
	case ".zst":
		tool = "zstd"
	default:
		st, err := file.Stat()
		if err != nil {
			file.Close()
			return nil, 0, err
		}
		return p, st.Size(), nil
	}
	p.cmd = exec.CommandContext(ctx, tool, "-dc")
	p.cmd.Stdin, p.cmd.Stderr = file, &p.said
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		file.Close()
		if errors.Is(err, exec.ErrNotFound) {
			err = fmt.Errorf("%w: install it, or unpack the image first", err)
		}
		return nil, 0, err
	}
	p.Reader = out
	return p, 0, nil
}

// cards checks the configuration of every card before the first is written.
func (f *flasher) cards(sheet []label) (cards []clockCard, err error) {
	raw, err := readSmall(f.config)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("flash: %w; name the clock's configuration with --config, or begin one with: punchclock config example --card", err)}
	}
	names, err := f.names(sheet)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	dir := filepath.Dir(f.config)
	seen := map[string]bool{}
	for _, l := range sheet {
		seen[l.ID] = true
	}
	for _, n := range names {
		body := plainText(raw)
		if n.id != "" {
			if body, err = setDevice(body, "id", n.id); err == nil && n.name != "" {
				body, err = setDevice(body, "name", n.name)
			}
			if err != nil {
				return nil, &exitError{exitUsage, fmt.Errorf("flash: %s: %w", f.config, err)}
			}
		}
		p := &provisioner{config: f.config, have: built()}
		card, err := p.check(f.config, body, beside(dir), func(string) (string, string, error) { return "", "", nil }, dir, nil)
		if err != nil {
			return nil, err
		}
		c := clockCard{label: label{ID: card.cfg.Device.ID, Name: card.cfg.Device.Name, Fingerprint: fingerprint(card.installed)}, files: map[string][]byte{cardName: body}}
		if seen[c.label.ID] {
			return nil, usage("flash: there is a card for %s already, see %s: two clocks of one id send each other's punch numbers; choose another id, or remove that label if the card is no more", c.label.ID, f.labels)
		}
		seen[c.label.ID] = true
		for _, w := range card.wanted {
			if s, where, err := beside(dir)(w.name); err == nil && where != "" {
				c.files[w.name] = []byte(s + "\n")
			}
		}
		for _, w := range card.authorities {
			if c.files[w.name], err = readSmall(filepath.Join(dir, w.name)); err != nil {
				return nil, err
			}
		}
		cards = append(cards, c)
	}
	return cards, nil
}

// deviceName is what tells one clock of a run from the next.
type deviceName struct{ id, name string }

var places = regexp.MustCompile(`#+`)

// names lists the ids to give out: the configuration's own, those of a file, or
// those of a pattern from the first number that no label has.
func (f *flasher) names(sheet []label) (names []deviceName, err error) {
	switch {
	case f.count < 1 || f.count > 1000:
		return nil, fmt.Errorf("flash: --count %d: write 1 to 1000", f.count)
	case f.ids == "" && f.count > 1:
		return nil, errors.New("flash: several cards need ids of their own: --ids tpe-1f-##, or a CSV file")
	case f.ids == "":
		return []deviceName{{}}, nil
	case strings.EqualFold(filepath.Ext(f.ids), ".csv"):
		return f.listed(sheet)
	}
	hole := places.FindString(f.ids)
	if hole == "" || len(places.FindAllString(f.ids, -1)) > 1 {
		return nil, fmt.Errorf("flash: --ids %s: write # where the number belongs, once, for example tpe-1f-##", f.ids)
	}
	for n := 1; len(names) < f.count; n++ {
		number := fmt.Sprintf("%0*d", len(hole), n)
		if len(number) > len(hole) {
			return nil, fmt.Errorf("flash: --ids %s: %d cards more do not fit: write one # more, or look at %s", f.ids, f.count, f.labels)
		}
		id := strings.Replace(f.ids, hole, number, 1)
		if !slices.ContainsFunc(sheet, func(l label) bool { return l.ID == id }) {
			names = append(names, deviceName{id: id})
		}
	}
	return names, nil
}

// listed reads a CSV file of ids and names and takes the first that have no label.
func (f *flasher) listed(sheet []label) (names []deviceName, err error) {
	raw, err := readSmall(f.ids)
	if err != nil {
		return nil, fmt.Errorf("flash: %w", err)
	}
	rows, err := csv.NewReader(bytes.NewReader(plainText(raw))).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("flash: %s: %w", f.ids, err)
	}
	id, name := -1, -1
	if len(rows) > 0 {
		id, name = slices.Index(rows[0], "id"), slices.Index(rows[0], "name")
	}
	if id < 0 {
		return nil, fmt.Errorf("flash: %s: the first line must name the columns: id,name", f.ids)
	}
	seen := map[string]int{}
	for i, row := range rows[1:] {
		n := deviceName{id: row[id]}
		if name >= 0 {
			n.name = row[name]
		}
		if before := seen[n.id]; before > 0 {
			return nil, fmt.Errorf("flash: %s: lines %d and %d have the same id %q: two clocks of one id send each other's punch numbers; change one", f.ids, before, i+2, n.id)
		}
		seen[n.id] = i + 2
		if len(names) < f.count && !slices.ContainsFunc(sheet, func(l label) bool { return l.ID == n.id }) {
			names = append(names, n)
		}
	}
	if len(names) < f.count {
		return nil, fmt.Errorf("flash: %s has only %d ids without a label, for %d cards", f.ids, len(names), f.count)
	}
	return names, nil
}

// setDevice writes a key of [device] into a configuration's text.
func setDevice(text []byte, key, value string) ([]byte, error) {
	var p unstable.Parser
	p.Reset(text)
	table, behind := "", -1 // the section; where the line of [device] ends
	for p.NextExpression() {
		e := p.Expression()
		var path []string
		var last unstable.Range
		for keys := e.Key(); keys.Next(); {
			path, last = append(path, string(keys.Node().Data)), keys.Node().Raw
		}
		switch name := strings.Join(path, "."); {
		case e.Kind == unstable.Table || e.Kind == unstable.ArrayTable:
			if table = name; name == "device" {
				behind = int(last.Offset) + bytes.IndexByte(append(text[last.Offset:], '\n'), '\n')
			}
		case e.Kind == unstable.KeyValue && strings.TrimPrefix(table+"."+name, ".") == "device."+key:
			if v := e.Value(); v.Raw.Length > 0 && v.Kind == unstable.String {
				return slices.Concat(text[:v.Raw.Offset], []byte(quote(value)), text[v.Raw.Offset+v.Raw.Length:]), nil
			}
			return nil, fmt.Errorf(`device.%s is no text: write %s = "…"`, key, key)
		}
	}
	if err := p.Error(); err != nil {
		return nil, fmt.Errorf("%w; check it with: punchclock provision --dry-run", err)
	}
	if behind < 0 {
		return nil, errors.New("there is no section [device]: write it on a line of its own")
	}
	return slices.Concat(text[:behind], []byte("\n"+key+" = "+quote(value)), text[behind:]), nil
}
