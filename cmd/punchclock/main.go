// Command punchclock is the clock at the door, and the technician's command line
// to it.
//
// `punchclock run` is the daemon: it reads badges, stores each punch before it
// says so, and delivers. All other verbs look at that daemon through the control
// socket in its state directory, or, where no daemon runs, at the files. run.go
// is the wiring and is meant to be read from top to bottom; each verb has a file
// of its own.
//
// Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 it
// failed, 2 usage or configuration, 3 could not be checked, 4 hardware missing.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"punchclock/queue"
	"punchclock/queue/roster"
)

// version is set by the linker.
var version = "dev"

const (
	exitFailed    = 1
	exitUsage     = 2
	exitUnchecked = 3
	exitMissing   = 4
)

// exitError is an error with the exit code it asks for.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// When memory is collected, in percent of what is in use. A clock has little memory and
// much time: early. But people wait while it starts: not before 16 MB are taken, which
// are given back when it is ready.
const (
	gcRun   = 50
	gcStart = 400
	gcLate  = 150
	gcAfter = 500 * time.Millisecond
)

// collectLate has memory collected late until some time after done is called: for work that
// takes much memory for a short time, while somebody may be at the door. A collection takes
// the processor for several milliseconds, also from the tap that comes in them. An import of
// 20,000 people needs one then instead of six; with still fewer it would take 48 MB on top.
func collectLate() (done func()) {
	if was := debug.SetGCPercent(gcLate); was > gcLate { // a verb's own process, for which nobody waits at the door
		debug.SetGCPercent(was)
		return func() {}
	}
	own := late.Add(1)
	return func() {
		time.AfterFunc(gcAfter, func() {
			if late.CompareAndSwap(own, own+1) { // nobody has begun such work since
				debug.SetGCPercent(gcRun)
			}
		})
	}
}

// late is the number of the latest such work.
var late atomic.Uint64

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Main runs one command line and returns its exit code.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	debug.SetGCPercent(gcRun)
	root := rootCommand(&tool{stdin: stdin, stdout: stdout, stderr: stderr})
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "punchclock: %v\n", err)
	var e *exitError
	var p problems
	switch {
	case errors.As(err, &e):
		return e.code
	case errors.As(err, &p):
		return exitUsage
	}
	return exitFailed
}

// tool is what the verbs share: where to write, and the flags of all of them.
type tool struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	configPath     string
	json           bool
}

func rootCommand(t *tool) *cobra.Command {
	root := &cobra.Command{
		Use:           "punchclock",
		Short:         "A time clock at the door: badge in, stored at once, delivered to 104, Feishu and your own systems",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
		Args:          cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			c.SetOut(t.stderr)
			c.Help()
			return usage("say which verb, for example: punchclock status --config /etc/punchclock/punchclock.toml")
		},
	}
	root.SetVersionTemplate("punchclock {{.Version}}\n")
	root.PersistentFlags().StringVar(&t.configPath, "config", defaultConfigPath, "the configuration `file`")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitUsage, err} })
	root.AddCommand(runCommand(t), statusCommand(t), punchesCommand(t), queueCommand(t), reconcileCommand(t), rosterCommand(t), candidatesCommand(t), badgeCommand(t), enrolCommand(t), peopleCommand(t),
		verifyCommand(t), recoverCommand(t), doctorCommand(t), adminCommand(t), configCommand(t), logsCommand(t), bundleCommand(t), indicatorCommand(t), unitsCommand(t), updateCommand(t), versionCommand(t))
	root.AddCommand(provisionCommand(t), flashCommand(t))
	root.AddCommand(buildCommands(t)...)
	// Added here and not by Execute, so that a mistake in them is one of usage, too.
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			c.Args = func(_ *cobra.Command, args []string) error {
				if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return fmt.Errorf("no verb %q", args)
				}
				return nil
			}
		}
	}
	asUsage(root)
	return root
}

const defaultConfigPath = "/etc/punchclock/punchclock.toml"

// asUsage gives wrong arguments and unknown verbs the exit code of usage, and has
// a verb that only groups others say which ones.
func asUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return &exitError{exitUsage, fmt.Errorf("%w; see: %s --help", err, c.CommandPath())}
			}
			return nil
		}
	}
	if c.HasSubCommands() && c.RunE == nil && c.Run == nil {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("%s: no verb %q; see: %s --help", c.CommandPath(), args[0], c.CommandPath())
			}
			return usage("%s: say which verb; see: %s --help", c.CommandPath(), c.CommandPath())
		}
	}
	for _, sub := range c.Commands() {
		asUsage(sub)
	}
}

// reporting adds --json to a verb.
func (t *tool) reporting(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&t.json, "json", false, "answer in JSON")
	return c
}

// versionAnswer is what --json prints. By the formats a package that is about to be
// put in this one's place knows whether it could read what this one has written.
type versionAnswer struct {
	Version      string `json:"version"`
	Go           string `json:"go"`
	Platform     string `json:"platform"`
	OutboxFormat int    `json:"outbox_format"`
	RosterFormat int    `json:"roster_format"`
}

func versionCommand(t *tool) *cobra.Command {
	return t.reporting(&cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if t.json {
				return t.printJSON(versionAnswer{version, goVersion(), platform(), queue.Format, roster.Format})
			}
			_, err := fmt.Fprintf(t.stdout, "punchclock %s (%s, %s)\n", version, goVersion(), platform())
			return err
		},
	})
}
