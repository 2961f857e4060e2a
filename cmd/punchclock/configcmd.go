package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
)

func configCommand(t *tool) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "The configuration file"}
	check := t.reporting(&cobra.Command{
		Use: "check", Short: "Check the configuration and the files it names", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := loadConfig(t.configPath, built())
			var faults, warnings problems
			if err == nil {
				faults, warnings = cfg.checkFiles()
			} else if p, ok := err.(problems); ok {
				faults = p
			} else {
				return &exitError{exitUsage, err}
			}
			if t.json {
				type row struct {
					File    string `json:"file"`
					Line    int    `json:"line"`
					Column  int    `json:"column"`
					Message string `json:"message"`
					Remedy  string `json:"remedy"`
				}
				rows := func(ps problems) []row {
					out := []row{}
					for _, p := range ps {
						out = append(out, row{p.file, p.line, p.col, p.msg, p.fix})
					}
					return out
				}
				if err := t.printJSON(map[string]any{"ok": len(faults) == 0, "faults": rows(faults), "warnings": rows(warnings)}); err != nil {
					return err
				}
			} else {
				for _, w := range warnings {
					fmt.Fprintln(t.stderr, "warning:", w)
				}
			}
			if len(faults) > 0 {
				return &exitError{exitUsage, faults}
			}
			if !t.json {
				fmt.Fprintf(t.stdout, "%s: %d readers, %d destinations: in order\n", t.configPath, len(cfg.Readers), len(cfg.Destinations))
			}
			return nil
		},
	})
	show := t.reporting(&cobra.Command{
		Use: "show", Short: "Print the configuration with every default filled in", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := loadConfig(t.configPath, built())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if !t.json {
				return cfg.show(t.stdout)
			}
			var text bytes.Buffer
			if err := cfg.show(&text); err != nil {
				return err
			}
			return t.printTOML(text.Bytes())
		},
	})
	var reader, destination string
	var card bool
	example := t.reporting(&cobra.Command{
		Use: "example", Short: "Print an example configuration with comments", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text := exampleConfig()
			switch {
			case destination != "":
				if text = exampleDestination(destination); text == "" {
					return usage("no example for a destination %q alone; the whole example holds the others, of %q", destination, built().destinations)
				}
			case reader != "":
				if text = exampleReader(reader); text == "" {
					return usage("no example for a reader %q; this build has %q, and for a serial one %q", reader, built().readers, built().dialects)
				}
			case card: // a clock from a card has nothing else to draw its screen with
				text = strings.Replace(text, "device = \"\"     ", "device = \"auto\" ", 1) + exampleCard
			}
			if t.json { // without the comments
				return t.printTOML([]byte(text))
			}
			_, err := fmt.Fprint(t.stdout, text)
			return err
		},
	})
	example.Flags().StringVar(&reader, "reader", "", "only the section of a reader with this `driver`, or of a serial one with this dialect")
	example.Flags().StringVar(&destination, "destination", "", "only the section of a destination with this `driver`")
	example.Flags().BoolVar(&card, "card", false, "the file that goes on a clock's card: with its secrets and its network, see provision")
	example.MarkFlagsMutuallyExclusive("reader", "destination", "card")
	c.AddCommand(check, show, example)
	return c
}

// printTOML prints a configuration as JSON.
func (t *tool) printTOML(text []byte) error {
	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		return err
	}
	return t.printJSON(tree)
}
