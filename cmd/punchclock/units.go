package main

import (
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"punchclock/systemd"
)

func unitsCommand(t *tool) *cobra.Command {
	return &cobra.Command{
		Use: "units [NAME]", Short: "Print the systemd units that belong to this program", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			files := systemd.Files()
			names, err := fs.Glob(files, "*")
			if err != nil {
				return err
			}
			if len(args) == 1 {
				b, err := fs.ReadFile(files, args[0])
				if err != nil {
					return usage("no unit %q; there is %q", args[0], names)
				}
				_, err = t.stdout.Write(b)
				return err
			}
			for _, n := range names {
				fmt.Fprintln(t.stdout, n)
			}
			return nil
		},
	}
}
