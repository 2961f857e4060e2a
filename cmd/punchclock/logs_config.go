package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
)

// Logs go to a collector by way of rsyslog: it reads the journal from where it
// stopped, keeps on disk what cannot go out, and tries again. What it cannot do is to
// be sure: its own RELP client takes a line for delivered that it has only written to
// a connection, and a restart while the collector is away loses such lines (21 of
// 8,000 in a trial). So the lines go through a program of ours that says of each
// whether the collector has it (logs send), and at the other end, behind rsyslog's RELP
// server, through one that drops what came a second time because an answer was lost
// (logs store). A collector of one's own needs no second program: it gets a line twice
// now and then.
//
// rsyslog may also lose what it has in its hands when it is stopped: so that is one
// line, and logs send keeps the line that nobody has taken.
//
// The clock itself knows of none of this: it writes to the journal.

// logsConfig says where the logs of this clock are collected.
type logsConfig struct {
	Server  string // host:port; "" is nowhere
	CA      string // of the collector's certificate; absolute, or beside the file
	Cert    string // the clock's own; absolute, or beside the file
	KeyFile string // as written; see config.secretPath
}

func (v *logsConfig) read(s *section, c *config) {
	if s.text("server", &v.Server) && v.Server != "" {
		host, port, err := net.SplitHostPort(v.Server)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, " /\\\"'") {
			s.bad("server", fmt.Sprintf("server %q is not a name and a port", v.Server), `write for example "logs.example.com:20514", or "" for nowhere`)
		}
	}
	for key, dst := range map[string]*string{"ca": &v.CA, "cert": &v.Cert, "key": &v.KeyFile} {
		s.text(key, dst)
		switch {
		case *dst == "" && v.Server != "" && s.textOrMissing(key):
			s.bad(key, "logs."+key+" is missing", `with server it takes ca = "logs-ca.pem", cert = "logs-cert.pem" and key = "logs-key.pem": both ends show a certificate`)
		case strings.ContainsAny(*dst, " \t\n\"'\\"):
			s.bad(key, fmt.Sprintf("logs.%s holds a blank, a quote or a backslash", key), "give the file a plain name: rsyslog's configuration takes no other")
		}
	}
	v.CA, v.Cert = c.beside(v.CA), c.beside(v.Cert)
	s.done()
}

func (v logsConfig) show(set func(key string, v any)) {
	set("server", v.Server)
	if v.Server != "" {
		set("ca", v.CA)
		set("cert", v.Cert)
		set("key", v.KeyFile)
	}
}

// senderConf is what rsyslog on the clock is told. High and low watermark: with more
// than ten lines waiting they go to disk, until two are left, so that the card is
// written in an outage only.
var senderConf = template.Must(template.New("sender").Parse(`# Written by: punchclock logs config. Not to be edited: [logs] in punchclock.toml is.
# Reads the journal, and has a program of punchclock's send each line and say whether
# the collector has it; what it has not waits in {{.State}}.
global(workDirectory="{{.State}}" maxMessageSize="64k" net.enableDNS="off")
module(load="imjournal" StateFile="journal.state" Ratelimit.Interval="0")
module(load="omprog")
template(name="time" type="string" string="%timereported:::date-rfc3339%")
template(name="line" type="string" string="<%pri%>1 %timereported:::date-rfc3339% {{.Device}} %app-name% - - - @cee:%$!all-json-plain%\n")
if $inputname == "imjournal" then {
	set $!PUNCHCLOCK_DEVICE = "{{.Device}}";
	set $!TIME = exec_template("time");
	action(type="omprog" name="collector" binary="{{.Program}}" template="line"
		confirmMessages="on" confirmTimeout="120000" closeTimeout="5000"
		queue.type="LinkedList" queue.size="1000" queue.highWatermark="10" queue.lowWatermark="2" queue.filename="lines" queue.maxDiskSpace="64m"
		queue.saveOnShutdown="on" queue.dequeueBatchSize="1" queue.timeoutShutdown="100" queue.timeoutEnqueue="86400000"
		action.resumeRetryCount="-1" action.resumeInterval="10" action.resumeIntervalMax="60" action.reportSuspension="off")
}
`))

// writeSender prints the clock's part. program is how to start punchclock logs send.
func (c *config) writeSender(w io.Writer, state, program string) error {
	return senderConf.Execute(w, map[string]any{"State": state, "Device": c.Device.ID, "Program": program})
}

// collectorConf is what rsyslog at the other end is told.
var collectorConf = template.Must(template.New("collector").Parse(`# Written by: punchclock logs collector. Goes to /etc/rsyslog.d/punchclock.conf on the
# machine that collects; it takes the packages rsyslog, rsyslog-relp and punchclock,
#   /etc/punchclock-collector/ca.pem                whoever signs the clocks' certificates
#   /etc/punchclock-collector/cert.pem, key.pem     this machine's own
# and a folder /var/log/punchclock, in which each clock gets a file with a line of JSON
# for each line of its journal. Whoever runs rsyslog must be able to write there.
# Without the first line what is longer than 8 KB would be cut.
global(maxMessageSize="256k")
module(load="imrelp" tls.tlslib="openssl")
module(load="omprog")
template(name="punchclock-line" type="string" string="%msg%\n")
# No queue between: the clock hears that a line is stored when it is.
ruleset(name="punchclock" queue.type="Direct") {
	action(type="omprog" name="punchclock-store" binary="{{.Program}}" template="punchclock-line"
		confirmMessages="on" closeTimeout="5000" action.resumeRetryCount="-1" action.resumeInterval="1")
}
input(type="imrelp" port="{{.Port}}" ruleset="punchclock" maxDataSize="256k" keepAlive="on" tls="on"
	tls.caCert="{{.Dir}}/ca.pem" tls.myCert="{{.Dir}}/cert.pem" tls.myPrivKey="{{.Dir}}/key.pem"
	{{if .Clocks}}tls.authMode="name" tls.permittedPeer=[{{range $i, $c := .Clocks}}{{if $i}}, {{end}}"{{$c}}"{{end}}]{{else}}tls.authMode="certvalid"{{end}})
`))

const logsPort = "20514"

func logsCommand(t *tool) *cobra.Command {
	c := &cobra.Command{Use: "logs", Short: "What the clock logs, and where that goes"}
	c.AddCommand(logEventsCommand(t), logConfigCommand(t), logSendCommand(t), logCollectorCommand(t), logStoreCommand(t))
	return c
}

func logConfigCommand(t *tool) *cobra.Command {
	var output, state string
	c := &cobra.Command{
		Use: "config", Short: "Print what rsyslog on this clock is to do, from [logs]", Args: cobra.NoArgs,
		Long: "Print what rsyslog on this clock is to do, from [logs] in the configuration. The unit punchclock-logs.service\n" +
			"starts an rsyslog of its own with it. Exit code 1: no collector is configured.",
		RunE: func(*cobra.Command, []string) error {
			cfg, err := loadConfig(t.configPath, built())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if cfg.Logs.Server == "" {
				return fmt.Errorf("%s: logs.server is empty: nothing is sent anywhere", t.configPath)
			}
			program, err := sendProgram(cfg.path, state)
			if err != nil {
				return err
			}
			return t.toOutput(output, func(w io.Writer) error { return cfg.writeSender(w, state, program) })
		},
	}
	c.Flags().StringVar(&output, "output", "", "write to this `file`, which appears when it is whole")
	logState(c, &state)
	return c
}

func logState(c *cobra.Command, state *string) {
	c.Flags().StringVar(state, "state", "/var/lib/punchclock-logs", "the `directory` in which lines wait")
}

// sendProgram is the command line of logs send. rsyslog starts it without any
// environment, so where systemd has put the key is handed over.
func sendProgram(configPath, state string) (string, error) {
	self, err := os.Executable()
	if err == nil {
		configPath, err = filepath.Abs(configPath)
	}
	if err != nil {
		return "", err
	}
	program := self + " logs send --config " + configPath + " --state " + state
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		program = "/usr/bin/env CREDENTIALS_DIRECTORY=" + dir + " " + program
	}
	if strings.ContainsAny(program, "\"'\\\n") {
		return "", fmt.Errorf("rsyslog's configuration takes no quotes and no backslashes: %s; move the file", program)
	}
	return program, nil
}

func logCollectorCommand(t *tool) *cobra.Command {
	var port string
	c := &cobra.Command{
		Use: "collector [CLOCK...]", Short: "Print what rsyslog on the collecting machine is to do", Args: cobra.ArbitraryArgs,
		Long: "Print what rsyslog on the machine that collects is to do. CLOCK is the name in a clock's certificate; only\n" +
			"those named may send. With none named, every certificate may that ca.pem has signed: for an authority that\n" +
			"signs clocks and nothing else.",
		RunE: func(_ *cobra.Command, clocks []string) error {
			for _, name := range clocks {
				if name == "" || strings.ContainsAny(name, "\"'\\ \n") {
					return usage("logs collector: %q is no name of a certificate", name)
				}
			}
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
				return usage("logs collector: %q is no port", port)
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			return writeCollector(t.stdout, "/etc/punchclock-collector", port, self+" logs store /var/log/punchclock", clocks)
		},
	}
	c.Flags().StringVar(&port, "port", logsPort, "TCP `port` to listen on")
	return c
}

func writeCollector(w io.Writer, dir, port, program string, clocks []string) error {
	return collectorConf.Execute(w, map[string]any{"Dir": dir, "Port": port, "Program": program, "Clocks": clocks})
}
