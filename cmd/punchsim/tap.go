package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"punchclock/queue/punch"
)

func tapCmd(io std) *cobra.Command {
	var port, usb, chip, keys, dialect, file, roster string
	var cards []string
	var every time.Duration
	var stay bool
	cmd := &cobra.Command{
		Use:   "tap --port LINK | --usb VENDOR:PRODUCT | --wires CHIP | --pad CHIP",
		Short: "Be a badge reader: serial, a USB keyboard, two Wiegand wires, or a matrix keypad",
		Long: `Be a badge reader. With --port a serial one at the end of a pseudo-terminal: LINK is
made and points to it; give it to punchclock as a reader's port. With --usb one that
types as a keyboard does, by the kernel's uinput: give punchclock's evdev reader the same
usb = "VENDOR:PRODUCT". With --wires one with Wiegand wires, on GPIO17 (D0) and GPIO18
(D1) of a chip that the kernel's gpio-sim makes: give punchclock's wiegand reader the same
chip. With --pad a matrix keypad on such a chip, rows on GPIO5, 6, 13, 19 and columns on
GPIO12, 16, 20, 21: the keys on the terminal are the pad's, and the badge of a file is
keys:123-4711- for the number 123 and the PIN 4711, - for # and , for *. Those three need
root and the module. The chip stays when punchsim ends.

Badges are tapped by key on a
terminal (1-9 people, 0 an unknown badge, g a spoilt frame, u unplug or plug in,
q quit), on a schedule with --every, or from a file with --file: one badge a line,
and after it, if wanted, how long to wait before it, e.g. "em:0A1B2C3D01 500ms".
Schedule and file wait until somebody has opened the port. With --dialect pn532 it is
that chip on a UART, for cards such as uid:04A1B2C3D4E580.`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cables := 0
			for _, c := range []string{port, usb, chip, keys} {
				if c != "" {
					cables++
				}
			}
			switch {
			case cables == 0:
				return usagef("--port is missing: name the link to make, for example --port .run/reader; or use --usb, --wires or --pad")
			case cables > 1:
				return usagef("a reader hangs on one cable: use one of --port, --usb, --wires and --pad")
			case chip != "" && cmd.Flags().Changed("dialect"):
				return usagef("--dialect is not for --wires: what goes over them is Wiegand")
			case keys != "" && cmd.Flags().Changed("dialect"):
				return usagef("--dialect is not for --pad: it has keys")
			case keys != "" && every > 0 && len(cards) == 0:
				return usagef("say with --badge what is pressed, for example --badge keys:123-4711-")
			case usb != "" && !cmd.Flags().Changed("dialect"):
				dialect = "hex-line"
			case usb != "" && dialect != "hex-line" && dialect != "dec-line":
				return usagef("dialect %q: a USB reader types hex-line or dec-line", dialect)
			case !slices.Contains(dialects, dialect):
				return usagef("dialect %q: use %s", dialect, strings.Join(dialects, ", "))
			}
			switch {
			case file != "" && every > 0:
				return usagef("use --file or --every, not both")
			case every < 0:
				return usagef("--every %v: use a time above zero", every)
			case len(cards) > 0 && every == 0:
				return usagef("--badge is for a schedule: say how often with --every")
			case file == "" && every == 0 && !isTerminal(io.in):
				return usagef("no terminal to read keys from: use --file or --every")
			}
			people, err := readPeople(roster)
			if err != nil {
				return err
			}
			if chip != "" {
				dialect = overWires
			}
			if keys != "" {
				dialect = overKeys
			}
			r := &reader{dialect: dialect, people: people}
			var plan []tapAt
			switch {
			case file != "":
				if plan, err = readTaps(file); err != nil {
					return err
				}
			case every > 0:
				var list []punch.Badge
				for _, s := range cards {
					b, err := punch.ParseBadge(s)
					if err != nil {
						return usageError{err}
					}
					list = append(list, b)
				}
				if list == nil {
					list = badges(people)
				}
				if list == nil {
					return fmt.Errorf("nobody in %s has a badge: name one with --badge", roster)
				}
				for _, b := range list {
					plan = append(plan, tapAt{b, every})
				}
			}
			// A badge that the dialect cannot send is told before anything is tapped.
			for _, t := range plan {
				if _, err := frame(dialect, t.badge); err != nil {
					return err
				}
			}
			if r.line, err = newCable(port, usb, chip, keys, dialect); err != nil {
				return err
			}
			return withCable(cmd.Context(), r.line, func(ctx context.Context) error {
				switch {
				case plan == nil:
					return tapByKey(ctx, io, r)
				case every > 0:
					for {
						if err := tapPlan(ctx, io, r, plan); err != nil {
							return ignoreCancel(err)
						}
					}
				}
				if err := tapPlan(ctx, io, r, plan); err != nil {
					return ignoreCancel(err)
				}
				if stay {
					<-ctx.Done()
					return nil
				}
				return ignoreCancel(sleep(ctx, time.Second)) // the listener reads the last badge before the line goes
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&port, "port", "", "`link` to make to the pseudo-terminal")
	f.StringVar(&usb, "usb", "", "be a USB reader of this `vendor:product`, for example 08ff:0009")
	f.StringVar(&chip, "wires", "", "be a Wiegand reader on a simulated `chip` of this label")
	f.StringVar(&keys, "pad", "", "be a matrix keypad on a simulated `chip` of this label")
	f.StringVar(&dialect, "dialect", "rdm6300", "what the reader speaks: "+strings.Join(dialects, ", "))
	f.StringVar(&file, "file", "", "tap the badges of this `file`, then end")
	f.BoolVar(&stay, "stay", false, "with --file: keep the port after the last badge, until interrupted")
	f.DurationVar(&every, "every", 0, "tap one badge every `time`, for ever")
	f.StringArrayVar(&cards, "badge", nil, "with --every: the `badge` to tap; repeat it to tap several in turn (default: everybody's)")
	f.StringVar(&roster, "roster", "", "CSV `file` of the people behind the keys (default: the demo's)")
	return cmd
}

// newCable plugs in what was asked for.
func newCable(port, usb, chip, keys, dialect string) (cable, error) {
	var c cable
	switch {
	case port != "":
		return newLine(port, dialect)
	case usb != "":
		k := &usbKeys{}
		if n, err := fmt.Sscanf(usb+"\n", "%4x:%4x\n", &k.vendor, &k.product); n != 2 || err != nil {
			return nil, usagef("--usb %q: write vendor and product in hexadecimal, for example 08ff:0009", usb)
		}
		c = k
	case keys != "":
		if err := checkLabel("pad", keys); err != nil {
			return nil, err
		}
		c = &pad{label: keys}
	default:
		if err := checkLabel("wires", chip); err != nil {
			return nil, err
		}
		c = &wires{label: chip}
	}
	return c, c.plug()
}

func checkLabel(flag, chip string) error {
	if strings.Trim(chip, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return usagef("--%s %q: use small letters, digits and dashes, for example wall", flag, chip)
	}
	return nil
}

func newLine(link, dialect string) (cable, error) {
	l, err := plugLine(link)
	if err != nil {
		return nil, err
	}
	if dialect == pn532 {
		l.chip = &nfc{}
	}
	return l, nil
}

// withCable keeps a cable while do runs, and takes it away.
func withCable(ctx context.Context, l cable, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.run(ctx) })
	g.Go(func() error {
		defer cancel()
		return do(ctx)
	})
	return errors.Join(g.Wait(), l.unplug())
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// ignoreCancel: being told to stop is the ordinary end.
func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// tapAt is one badge of a plan.
type tapAt struct {
	badge punch.Badge
	after time.Duration // to wait before it
}

// readTaps reads one badge a line, with an optional delay; # begins a comment.
func readTaps(path string) ([]tapAt, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the badges: %w", err)
	}
	defer f.Close()
	var plan []tapAt
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		var t tapAt
		t.badge, err = punch.ParseBadge(words[0])
		if err == nil && len(words) > 1 {
			t.after, err = time.ParseDuration(words[1])
		}
		if err == nil && (len(words) > 2 || t.after < 0) {
			err = errors.New("write a badge and, if wanted, a delay such as 500ms")
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		plan = append(plan, t)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the badges: %w", err)
	}
	if plan == nil {
		return nil, fmt.Errorf("%s holds no badge", path)
	}
	return plan, nil
}

// tapPlan taps a list once, each badge when somebody listens: a listener that
// leaves in between loses none.
func tapPlan(ctx context.Context, io std, r *reader, plan []tapAt) error {
	for _, t := range plan {
		if err := sleep(ctx, t.after); err != nil {
			return err
		}
		for {
			r.settled = r.settled && r.line.listening()
			if err := r.line.waitListener(ctx); err != nil {
				return err
			}
			// A program that has just opened the port throws away what was in it.
			if err := r.settle(ctx); err != nil {
				return err
			}
			said, err := r.tap(t.badge)
			if errors.Is(err, errNobody) {
				continue
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(io.out, said)
			break
		}
	}
	return nil
}

func tapByKey(ctx context.Context, io std, r *reader) error {
	restore, err := singleKeys(io.in)
	if err != nil {
		return fmt.Errorf("read single keys: %w", err)
	}
	defer restore()
	fmt.Fprintf(io.out, "reader at %s (%s)\n%s", r.line.name(), r.dialect, r.help())
	ctx, cancel := context.WithCancel(ctx)
	g, ctx := errgroup.WithContext(ctx)
	keys := make(chan byte)
	g.Go(func() error {
		readKeys(ctx, io.in, keys)
		return nil
	})
	g.Go(func() error {
		defer cancel()
		for k := range keys {
			what, quit, err := r.key(k)
			if err != nil {
				what = err.Error()
			}
			if what != "" {
				fmt.Fprintln(io.out, what)
			}
			if quit {
				return nil
			}
		}
		return nil
	})
	return g.Wait()
}

// reader is what a person at the desk does with a simulated reader.
type reader struct {
	line    cable
	dialect string
	people  []person

	settled bool // the listener has had the port long enough
}

// settleTime is longer than a listener needs to be ready after it has opened the port.
const settleTime = 400 * time.Millisecond

// settle waits once after the port was opened.
func (r *reader) settle(ctx context.Context) error {
	if r.settled {
		return nil
	}
	r.settled = true
	return sleep(ctx, settleTime)
}

// tap holds a badge to the reader and says what was done.
func (r *reader) tap(badge punch.Badge) (string, error) {
	b, err := frame(r.dialect, badge)
	if err != nil {
		return "", err
	}
	if err := r.line.send(b); err != nil {
		if errors.Is(err, errNobody) {
			r.settled = false
		}
		return "", err
	}
	return "tapped " + r.who(badge), nil
}

// unknown is a badge that nobody has and the reader can read.
func (r *reader) unknown() punch.Badge {
	if r.dialect == pn532 || r.dialect == "raw4" {
		return "uid:FEEDC0DE"
	}
	return unknownBadge
}

func (r *reader) who(badge punch.Badge) string {
	if r.dialect == overKeys {
		return "keys"
	}
	for _, p := range r.people {
		if p.badge == badge {
			return p.number + " " + p.name
		}
	}
	return "a badge of nobody"
}

// key does what a key stands for. The words are "" for a key that means nothing.
func (r *reader) key(k byte) (said string, quit bool, err error) {
	if c := bytes.ToUpper([]byte{k}); r.dialect == overKeys && strings.Contains(padKeys, string(c)) {
		return "", false, r.line.send(c)
	}
	switch {
	case k >= '1' && k <= '9':
		i := int(k - '1')
		if i >= len(r.people) || r.people[i].badge == "" {
			return "nobody with a badge behind this key", false, nil
		}
		said, err = r.tap(r.people[i].badge)
		return said, false, err
	case k == '0':
		said, err = r.tap(r.unknown())
		return said, false, err
	case k == 'g':
		var b []byte
		if r.dialect != overKeys { // of which it does not matter what was meant
			if b, err = frame(r.dialect, r.unknown()); err != nil {
				return "", false, err
			}
		}
		return "sent a spoilt frame", false, r.line.send(garbage(r.dialect, b))
	case k == 'u':
		if r.line.plugged() {
			return "unplugged; u plugs it in again", false, r.line.unplug()
		}
		r.settled = false
		return "plugged in", false, r.line.plug()
	case k == 'q' || k == 4: // Ctrl-D
		return "", true, nil
	case k == '?' || k == 'h':
		return strings.TrimRight(r.help(), "\n"), false, nil
	}
	return "", false, nil
}

// help says which key is who.
func (r *reader) help() string {
	if r.dialect == overKeys {
		return "  0-9 * # a-d  that key\n  g  two keys at once\n  u  unplug the keypad, plug it in\n  q  quit\n"
	}
	var b strings.Builder
	for i, p := range r.people {
		if i == 9 {
			break
		}
		fmt.Fprintf(&b, "  %d  %-7s %s\n", i+1, p.number, p.name)
	}
	b.WriteString("  0  a badge nobody knows\n  g  a spoilt frame\n  u  unplug the reader, plug it in\n  q  quit\n")
	return b.String()
}
