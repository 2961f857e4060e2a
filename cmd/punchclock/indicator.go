package main

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"punchclock/ui/indicator"
)

// newIndicator takes the outputs that are wired and switches them off; nil where
// none is.
func newIndicator(cfg *config, log *slog.Logger) (*indicator.Indicator, error) {
	c := cfg.Indicator
	if !c.fitted() {
		return nil, nil
	}
	out := indicator.Config{RelayPulse: c.RelayPulse, Logger: log}
	to := []*indicator.Output{&out.Green, &out.Red, &out.Amber, &out.Blue, &out.Buzzer, &out.Relay} // as pins
	for i, p := range c.pins() {
		if *p.pin == "" {
			continue
		}
		pin, err := indicator.Pin(*p.pin)
		if err != nil {
			return nil, err
		}
		*to[i] = indicator.Output{Pin: pin, ActiveLow: c.ActiveLow[i]}
	}
	return indicator.New(out)
}

// indicatorCommand is for whoever starts the clock: a clock that was killed left its
// relay as it was.
func indicatorCommand(t *tool) *cobra.Command {
	c := &cobra.Command{Use: "indicator", Short: "Lamps, buzzer, relay"}
	c.AddCommand(&cobra.Command{
		Use: "off", Short: "Switch all of them off, after the clock has ended in whatever way", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := loadConfig(t.configPath, built())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if _, err := newIndicator(cfg, newLogger(t.stderr)); err != nil {
				return fmt.Errorf("%w; while the clock runs, it has them", err)
			}
			return nil
		},
	})
	return c
}
