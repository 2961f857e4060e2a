// Punchsim is a desk without hardware: the two remote systems on loopback, and a
// badge reader that is a pseudo-terminal.
//
// Three verbs. "clouds" serves 104 and Feishu with their control page. "tap" is a
// reader: a link that a punchclock opens as its port, a keyboard of the kernel's uinput
// or two wires of its gpio-sim, and badges that are tapped by key, by schedule or from
// a file. "demo" is clouds and a serial reader, with a punchclock
// between them; it is what make run starts.
//
// Nothing here leaves the machine: an address that is not loopback is refused,
// and ids and secrets are made up.
//
// Exit codes: 0 done, 1 it failed, 2 usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], std{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// usageError is a mistake in how punchsim was called.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run is the whole program, but for the process around it.
func run(ctx context.Context, args []string, io std) int {
	root := &cobra.Command{
		Use:           "punchsim",
		Short:         "Sandbox clouds and a simulated badge reader for punchclock",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown verb %q: use clouds, tap or demo", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v; see %s --help", err, cmd.CommandPath())
	})
	root.SetOut(io.out)
	root.SetErr(io.err)
	root.AddCommand(cloudsCmd(io), tapCmd(io), demoCmd(io))
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(io.err, "punchsim:", err)
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}

// none refuses arguments that are not flags.
func none(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no argument, got %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}
