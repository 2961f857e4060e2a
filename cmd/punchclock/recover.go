package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"punchclock/queue"
)

// recoverReport is what `punchclock recover --json` answers.
type recoverReport struct {
	Taken   uint64       `json:"taken"`         // punches that only a copy had
	Again   uint64       `json:"offered_again"` // of those: had been passed over or settled at a destination
	Records uint64       `json:"records"`       // in the outbox now
	First   uint64       `json:"first"`
	Last    uint64       `json:"last"`
	Next    uint64       `json:"next"`    // number of the next punch
	Missing []queue.Span `json:"missing"` // numbers without a punch, not all of which were given out
	Bad     int          `json:"bad_lines"`
	Notes   []string     `json:"notes"`
}

func recoverCommand(t *tool) *cobra.Command {
	var from []string
	c := t.reporting(&cobra.Command{
		Use:   "recover",
		Short: "Bring punches back into the outbox from its second copy, while the clock is stopped",
		Long: `Bring back what the outbox has lost and a copy still has: its second copy
(outbox/mirror in the state directory) and what --from names, a folder or a file:
months of another second copy (2026-11.txt), database files, a folder quarantine.
What is whole stays as it is. A damaged file is set aside under a dated name in
outbox/quarantine, never deleted. It may be repeated.

What is brought back is offered to every destination again, because nobody can know
whether they have it: better sent twice than not at all.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(t.configPath, built())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			for _, path := range from {
				if _, err := os.Stat(path); err != nil {
					return usage("--from: %w", err)
				}
			}
			if st, err := os.Stat(cfg.Device.StateDir); err != nil && len(from) == 0 {
				return &exitError{exitUnchecked, fmt.Errorf("recover: %w; name a copy with --from", err)}
			} else if err == nil && !st.IsDir() {
				return usage("state directory: %s is a file", cfg.Device.StateDir)
			}
			if err := becomeOwner(cfg.Device.StateDir); err != nil {
				return err
			}
			if err := makeStateDir(cfg.Device.StateDir); err != nil {
				return usage("state directory: %w", err)
			}
			log := newLogger(t.stderr)
			r, err := queue.Recover(c.Context(), queue.Options{Dir: outboxDir(cfg), Device: cfg.Device.ID, Destinations: cfg.destinationNames(),
				Mirror: mirrorDir(cfg), Logger: log}, from)
			switch {
			case errors.Is(err, queue.ErrInUse):
				return fmt.Errorf("a punchclock runs on %s; stop it first, with: systemctl stop punchclock", cfg.Device.StateDir)
			case errors.Is(err, queue.ErrOtherDevice):
				return &exitError{exitUsage, err}
			case err != nil:
				return fmt.Errorf("recover: %w; it may be repeated", err)
			}
			return t.recovered(r)
		},
	})
	c.Flags().StringArrayVar(&from, "from", nil, "also from this `folder or file`; may be given several times")
	return c
}

func (t *tool) recovered(r queue.Recovery) error {
	if t.json {
		out := recoverReport{Taken: r.Taken, Again: r.Again, Records: r.Records, First: r.First, Last: r.Last, Next: r.Next, Missing: r.Missing, Bad: r.Bad, Notes: r.Notes}
		if out.Missing == nil {
			out.Missing = []queue.Span{}
		}
		if out.Notes == nil {
			out.Notes = []string{}
		}
		return t.printJSON(out)
	}
	fmt.Fprintf(t.stdout, "%d punches brought back from copies\n", r.Taken)
	if r.Taken > 0 {
		fmt.Fprintf(t.stdout, "they are offered to every destination again, nobody can know which of them has them: better sent twice than not at all\n")
	}
	fmt.Fprintf(t.stdout, "the outbox holds %d punches, numbers %d to %d; the next one is number %d\n", r.Records, r.First, r.Last, r.Next)
	for _, s := range r.Missing {
		fmt.Fprintf(t.stdout, "no punch has a number from %d to %d: lost, or never given out\n", s.First, s.Last)
	}
	if r.Bad > 0 {
		fmt.Fprintf(t.stdout, "%d lines of the copies are torn or damaged and were not believed\n", r.Bad)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(t.stdout, n)
	}
	return nil
}
