//go:build man

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// buildCommands are the verbs that only making a package needs.
func buildCommands(t *tool) []*cobra.Command {
	return []*cobra.Command{{
		Use: "man DIR", Short: "Write the manual pages", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			if err := writeManual(c.Root(), args[0]); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(args[0], "punchclock.toml.5"), []byte(configPage()), 0o644)
		},
	}}
}

// writeManual writes a page for the verb and for each below it.
func writeManual(c *cobra.Command, dir string) error {
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	if err := os.WriteFile(filepath.Join(dir, name+".1"), []byte(manualPage(c)), 0o644); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			if err := writeManual(sub, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// roff makes text safe: a line of it is no request, a backslash no escape, and a
// hyphen can be copied.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

// manualPage has no date: the same source makes the same page.
func manualPage(c *cobra.Command) string {
	var b strings.Builder
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH \"%s\" 1 \"\" \"punchclock %s\" \"punchclock\"\n", strings.ToUpper(roff(name)), version)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(c.UseLine()))
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(long))
	flags := func(title string, set *pflag.FlagSet) {
		if !set.HasAvailableFlags() {
			return
		}
		fmt.Fprintf(&b, ".SH %s\n", title)
		set.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			value, words := pflag.UnquoteUsage(f)
			fmt.Fprintf(&b, ".TP\n.B \\-\\-%s", roff(f.Name))
			if value != "" {
				fmt.Fprintf(&b, " \\fI%s\\fR", roff(value))
			}
			fmt.Fprintf(&b, "\n%s\n", roff(words))
		})
	}
	flags("OPTIONS", c.NonInheritedFlags())
	flags("OPTIONS OF ALL VERBS", c.InheritedFlags())
	fmt.Fprint(&b, ".SH EXIT STATUS\n.nf\n0  done\n1  it failed\n2  usage or configuration\n3  could not be checked\n4  hardware is missing\n.fi\n")
	var also []string
	if c.HasParent() {
		also = append(also, strings.ReplaceAll(c.Parent().CommandPath(), " ", "-"))
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			also = append(also, name+"-"+sub.Name())
		}
	}
	for i, a := range also {
		also[i] = fmt.Sprintf("\\fB%s\\fR(1)", roff(a))
	}
	also = append(also, `\fBpunchclock.toml\fR(5)`)
	fmt.Fprintf(&b, ".SH SEE ALSO\n%s\n", strings.Join(also, ",\n"))
	return b.String()
}

// configPage is the example, which explains every key.
func configPage() string {
	return ".TH \"PUNCHCLOCK.TOML\" 5 \"\" \"punchclock " + version + "\" \"punchclock\"\n" +
		".SH NAME\npunchclock.toml \\- the configuration of a punch clock\n" +
		".SH DESCRIPTION\nOne strict TOML file, /etc/punchclock/punchclock.toml. An unknown key, a wrong type or an impossible value is refused with line and column:\n" +
		".BR \"punchclock config check\" .\nEvery key, with what it means:\n.PP\n.nf\n" + roff(exampleConfig()) + "\n.fi\n" +
		".SH SEE ALSO\n\\fBpunchclock\\fR(1),\n\\fBpunchclock\\-config\\fR(1)\n"
}
