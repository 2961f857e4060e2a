package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// The two programs that rsyslog starts are told a line at a time on stdin and answer
// each with OK, or with what is wrong; after that, and without an answer, they are
// told the line again (rsyslog's omprog, confirmMessages).

const (
	relpDial   = 10 * time.Second // to connect, the certificates included
	relpAnswer = 30 * time.Second // for the collector to have stored a line
)

// relp is a connection to a collector (RELP, rsyslog's "reliable event logging
// protocol"): numbered frames "<n> <command> <length>[ <data>]\n", each answered by
// "<n> rsp <length>[ <data>]\n", where data begins with 200 for yes.
type relp struct {
	conn net.Conn
	in   *bufio.Reader
	n    uint64
}

// dialRELP connects, each end having shown its certificate to the other.
func dialRELP(server string, c *tls.Config) (*relp, error) {
	raw, err := net.DialTimeout("tcp", server, relpDial)
	if err != nil {
		return nil, err
	}
	return openRELP(raw, c)
}

// openRELP begins a session on a connection, and closes it where that does not work.
func openRELP(raw net.Conn, c *tls.Config) (*relp, error) {
	raw.SetDeadline(time.Now().Add(relpDial)) // for the handshake too: one may connect to a router that swallows the rest
	conn := tls.Client(raw, c)
	if err := conn.Handshake(); err != nil {
		raw.Close()
		return nil, err
	}
	r := &relp{conn: conn, in: bufio.NewReader(conn)}
	if err := r.command("open", "relp_version=0\nrelp_software=punchclock\ncommands=syslog"); err != nil {
		raw.Close()
		return nil, err
	}
	return r, nil
}

// command sends a frame and waits for its answer. After an error the connection is of
// no use, and nobody knows whether the far side has the frame.
func (r *relp) command(name, data string) error {
	r.n++
	r.conn.SetDeadline(time.Now().Add(relpAnswer))
	if _, err := fmt.Fprintf(r.conn, "%d %s %d %s\n", r.n, name, len(data), data); err != nil {
		return err
	}
	n, what, answer, err := readRELP(r.in)
	switch {
	case err != nil:
		return fmt.Errorf("the collector's answer: %w", err)
	case what == "serverclose":
		return errors.New("the collector has closed the connection")
	case n != r.n || what != "rsp":
		return fmt.Errorf("the collector answers frame %d with %q %d", r.n, what, n)
	case !strings.HasPrefix(answer, "200"):
		first, _, _ := strings.Cut(answer, "\n")
		return fmt.Errorf("the collector refuses it: %q", first)
	}
	return nil
}

const (
	relpMostAnswer = 64 << 10
	relpMostNumber = 999_999_999 // the protocol's
)

// readRELP reads one frame.
func readRELP(in *bufio.Reader) (n uint64, command, data string, err error) {
	word := func(most int) (string, byte, error) {
		var b []byte
		for len(b) <= most {
			c, err := in.ReadByte()
			if err != nil {
				return "", 0, err
			}
			if c == ' ' || c == '\n' {
				return string(b), c, nil
			}
			b = append(b, c)
		}
		return "", 0, errors.New("no RELP: a word without an end")
	}
	number, end, err := word(9)
	if err != nil {
		return 0, "", "", err
	}
	if n, err = strconv.ParseUint(number, 10, 32); err != nil || n > relpMostNumber || end != ' ' {
		return 0, "", "", errors.New("no RELP: a frame without a number")
	}
	if command, end, err = word(32); err != nil {
		return 0, "", "", err
	}
	if end != ' ' || command == "" {
		return 0, "", "", errors.New("no RELP: a frame without a length")
	}
	text, end, err := word(9)
	if err != nil {
		return 0, "", "", err
	}
	size, err := strconv.ParseUint(text, 10, 32)
	switch {
	case err != nil || size > relpMostAnswer:
		return 0, "", "", errors.New("no RELP: a frame of no possible length")
	case end == '\n' && size == 0:
		return n, command, "", nil
	case end == '\n':
		return 0, "", "", errors.New("no RELP: a frame without its data")
	}
	b := make([]byte, size+1)
	if _, err := io.ReadFull(in, b); err != nil {
		return 0, "", "", err
	}
	if b[size] != '\n' {
		return 0, "", "", errors.New("no RELP: a frame without an end")
	}
	return n, command, string(b[:size]), nil
}

// tlsConfig reads the certificates, anew for each connection: a renewed one is taken
// over without a restart.
func (v logsConfig) tlsConfig(keyPath string) (*tls.Config, error) {
	ca, err := os.ReadFile(v.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", v.CA)
	}
	own, err := tls.LoadX509KeyPair(v.Cert, keyPath)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(v.Server)
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: roots, ServerName: host, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}, nil
}

func logSendCommand(t *tool) *cobra.Command {
	var state string
	c := &cobra.Command{
		Use: "send", Short: "Send lines to the collector: rsyslog starts this", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := loadConfig(t.configPath, built())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if cfg.Logs.Server == "" {
				return usage("logs send: logs.server is empty")
			}
			book := newLogbook(t.stderr, cfg.Device.ID)
			if journal.Enabled() {
				book.send = journal.Send // stderr leads nowhere below rsyslog
			}
			defer book.begin()()
			s := &sender{log: book.logger(), server: cfg.Logs.Server, dial: func() (*relp, error) {
				c, err := cfg.Logs.tlsConfig(cfg.secretPath(cfg.Logs.KeyFile))
				if err != nil {
					return nil, err
				}
				return dialRELP(cfg.Logs.Server, c)
			}}
			if s.first, s.files, err = takeUnsent(state); err != nil {
				return fmt.Errorf("logs send: lines of before: %w", err)
			}
			untaken, err := s.left(confirm(t.stdin, t.stdout, s.line))
			if kerr := keepUnsent(state, untaken); kerr != nil {
				return errors.Join(err, kerr)
			}
			return errors.Join(err, s.forget())
		},
	}
	logState(c, &state)
	return c
}

// errUntaken is what confirm returns where in ended and the last line was not taken.
type errUntaken struct{ line string }

func (e *errUntaken) Error() string { return "rsyslog has ended" }

// confirm has fn take each line of in, and answers on out. Where in ends while fn is
// at work, or fn has not taken the last line, or that could not be told, the error is
// errUntaken: whoever has said the line may forget it.
func confirm(in io.Reader, out io.Writer, fn func(line string) error) error {
	if _, err := fmt.Fprintln(out, "OK"); err != nil { // ready
		return err
	}
	lines, ended := make(chan string), make(chan error, 1)
	go func() {
		r := bufio.NewReaderSize(in, 64<<10)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				if errors.Is(err, io.EOF) {
					err = nil // what is not whole was not said
				}
				ended <- err
				return
			}
			lines <- strings.TrimSuffix(line, "\n")
		}
	}()
	taken := make(chan error, 1)
	refused := "" // the last line, to be said again
	for {
		select {
		case err := <-ended:
			if refused != "" {
				return &errUntaken{refused}
			}
			return err
		case line := <-lines:
			go func() { taken <- fn(line) }()
			answer := "OK"
			refused = ""
			select {
			case err := <-taken:
				if err != nil {
					refused = line
					answer = "Error: " + strings.ReplaceAll(err.Error(), "\n", " ")
				}
			case <-ended: // the rest of fn ends with the process
				return &errUntaken{line}
			}
			if _, err := fmt.Fprintln(out, answer); err != nil {
				return &errUntaken{line}
			}
		}
	}
}

// sender keeps a connection to the collector.
type sender struct {
	log    *slog.Logger
	server string
	dial   func() (*relp, error)
	conn   *relp // nil for none
	said   string

	mu    sync.Mutex
	first []string   // of an earlier life, to be sent before anything else
	files []*os.File // in which they lie
}

// left returns what nobody has taken when confirm has ended with err, and err where it
// is another one.
func (s *sender) left(err error) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var untaken *errUntaken
	if errors.As(err, &untaken) {
		return append(slices.Clone(s.first), untaken.line), nil
	}
	return s.first, err
}

// keepUnsent writes lines down for the next life. There may be two of us at a time:
// rsyslog has one for the lines in memory and one for those on disk.
func keepUnsent(dir string, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	for n := os.Getpid(); ; n++ {
		path := filepath.Join(dir, fmt.Sprintf("unsent-%d", n))
		if _, err := os.Stat(path); err != nil { // else of an earlier life that had our number
			return replaceFile(path, []byte(strings.Join(lines, "\n")+"\n"))
		}
	}
}

// takeUnsent takes over what those before us have left. The files stay, locked while
// they are open: whoever is killed meanwhile leaves them to the next one.
func takeUnsent(dir string) (lines []string, files []*os.File, err error) {
	found, err := filepath.Glob(filepath.Join(dir, "unsent-*[0-9]"))
	if err != nil {
		return nil, nil, err
	}
	for _, path := range found {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the other one had it
		}
		if err != nil {
			return nil, nil, err
		}
		// A file that was locked and removed before we had it is nobody's any more.
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			_, err = os.Stat(path)
		}
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			f.Close()
			continue
		}
		files = append(files, f)
		b, rerr := io.ReadAll(f)
		if err = errors.Join(err, rerr); err != nil {
			return nil, nil, err
		}
		for line := range strings.Lines(string(b)) {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines, files, nil
}

// forget removes the files of an earlier life: their lines are sent, or written down
// again.
func (s *sender) forget() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		err = errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	s.files = nil
	return err
}

// longestLine is what the collector takes, see collectorConf, less some room.
const longestLine = 240 << 10

// shortened cuts the long fields of a line that is too long, so that it stays JSON. Two
// times the same line give the same.
func shortened(line string) string {
	head, text, _ := strings.Cut(line, lineMark)
	var fields map[string]any
	if json.Unmarshal([]byte(text), &fields) != nil {
		return line[:longestLine]
	}
	for most := longestLine / 2; ; most /= 2 {
		for key, v := range fields {
			if s, is := v.(string); is && len(s) > most {
				fields[key] = strings.ToValidUTF8(s[:most], "") + "…"
			}
		}
		if b, err := json.Marshal(fields); err == nil && (len(head)+len(lineMark)+len(b) <= longestLine || most == 0) {
			return head + lineMark + string(b)
		}
	}
}

// line returns nil when the collector has stored it. A connection that was cut while
// nobody used it is noticed with the next line, so that one is tried twice.
func (s *sender) line(line string) error {
	if len(line) > longestLine {
		line = shortened(line)
	}
	err := s.all(line)
	if err != nil {
		err = s.all(line)
	}
	if err != nil {
		if what := withoutAddresses(err); what != s.said {
			s.said = what
			s.log.Warn("the log's collector does not take lines; they wait on disk", "server", s.server, "err", err)
		}
		return err
	}
	if s.said != "" {
		s.said = ""
		s.log.Info("the log's collector takes lines again", "server", s.server)
	}
	return nil
}

// withoutAddresses is what an error is about. The text of one of the network has our
// own port in it, which is another with each try; said each time, it would be a line
// more for the collector each time.
func withoutAddresses(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// all sends what an earlier life has left, then the line.
func (s *sender) all(line string) error {
	for len(s.first) > 0 {
		if err := s.once(s.first[0]); err != nil {
			return err
		}
		s.mu.Lock()
		s.first = s.first[1:]
		last := len(s.first) == 0
		s.mu.Unlock()
		if last {
			if err := s.forget(); err != nil {
				return err
			}
		}
	}
	return s.once(line)
}

func (s *sender) once(line string) (err error) {
	if s.conn == nil {
		if s.conn, err = s.dial(); err != nil {
			s.conn = nil
			return err
		}
	}
	if err = s.conn.command("syslog", line); err != nil {
		s.conn.conn.Close()
		s.conn = nil
	}
	return err
}
