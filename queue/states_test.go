package queue

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"punchclock/queue/punch"
)

// The crash states. A process writes an outbox while every write, sync, rename
// and truncation of it is recorded, and so is every promise it makes. Then each
// state that a power cut could have left on the medium is built and opened with
// the real code. What may be on the medium at a moment:
//
//   - of each file, all that was written before its last sync, and any subset of
//     what was written or cut since, in the order of the writing; the newest write
//     may have stopped after any of its sectors of 512 bytes, or be there in some
//     of them only;
//   - of each folder, all names as of its last sync; what was made, renamed or
//     removed since may have happened or not, but names that hang together in the
//     order of the calls;
//   - names and contents know nothing of each other: a file may have its final
//     name and none of its bytes. A file system is seldom as bad;
//   - what a sync failed to write may be there or not, whatever is synced later.

// recorder is the medium: what it holds for certain, and what it may hold.
type recorder struct {
	root  string // all below is recorded
	fds   map[int]*handle
	live  map[string]*inode // what a process sees, by path below root
	firm  map[string]*inode // the names on the medium for certain
	names []nameOp          // those that are not
	news  func(newest any, what string)
}

func newRecorder(root string) *recorder {
	return &recorder{root: root, fds: map[int]*handle{}, live: map[string]*inode{}, firm: map[string]*inode{}, news: func(any, string) {}}
}

type handle struct {
	ino    *inode
	dir    string // the folder, where it is one
	offset int64
	append bool
}

type inode struct {
	folder  bool
	content []byte // on the medium for certain
	size    int64  // as a process sees it
	pending []*dataOp
}

type dataOp struct {
	firm     bool // synced, behind one that is in doubt
	doubt    bool // a sync of it failed: no later one is about it
	ino      *inode
	off      int64
	data     []byte // nil for a truncation
	truncate int64
}

type nameOp struct {
	dir      string // whose sync makes it firm
	from, to string // from is "" for a new file, to is "" for a removed one
	ino      *inode
}

func apply(content []byte, op *dataOp, data []byte) []byte {
	if op.data == nil {
		if op.truncate <= int64(len(content)) {
			return content[:op.truncate:op.truncate]
		}
		return append(content[:len(content):len(content)], make([]byte, op.truncate-int64(len(content)))...)
	}
	if end := op.off + int64(len(data)); end > int64(len(content)) {
		content = append(content[:len(content):len(content)], make([]byte, end-int64(len(content)))...)
	}
	copy(content[op.off:], data)
	return content
}

func (op nameOp) apply(names map[string]*inode) {
	delete(names, op.from)
	if op.to != "" {
		names[op.to] = op.ino
	}
}

// below returns the path below root, ok where it is there.
func (r *recorder) below(path string) (string, bool) {
	rel, err := filepath.Rel(r.root, path)
	return rel, err == nil && rel != "." && !strings.HasPrefix(rel, "..")
}

func (r *recorder) name(op nameOp) {
	op.dir = filepath.Dir(op.to)
	if op.to == "" {
		op.dir = filepath.Dir(op.from)
	}
	op.apply(r.live)
	r.names = append(r.names, op)
	r.news(&r.names[len(r.names)-1], fmt.Sprintf("name %q → %q", op.from, op.to))
}

func (r *recorder) data(op *dataOp) {
	if op.data != nil {
		op.ino.size = max(op.ino.size, op.off+int64(len(op.data)))
	} else {
		op.ino.size = op.truncate
	}
	op.ino.pending = append(op.ino.pending, op)
	r.news(op, fmt.Sprintf("%d bytes at %d of %s", len(op.data), op.off, r.nameOf(op.ino)))
}

func (r *recorder) nameOf(ino *inode) string {
	for name, i := range r.live {
		if i == ino {
			return name
		}
	}
	return "a removed file"
}

func (r *recorder) sync(h *handle) {
	if h.ino == nil {
		var rest []nameOp
		for _, op := range r.names {
			if op.dir == h.dir {
				op.apply(r.firm)
			} else {
				rest = append(rest, op)
			}
		}
		r.names = rest
		r.news(nil, "sync of folder "+h.dir)
		return
	}
	h.ino.content = slices.Clone(h.ino.content)
	first := true // nothing in doubt before it
	h.ino.pending = slices.DeleteFunc(h.ino.pending, func(op *dataOp) bool {
		op.firm = !op.doubt
		if first = first && op.firm; first {
			h.ino.content = apply(h.ino.content, op, op.data)
		}
		return first
	})
	r.news(nil, "sync of "+r.nameOf(h.ino))
}

// syncFailed leaves in doubt for ever what was to be synced: the kernel takes the
// pages for clean, and the next sync does not write them. A new size is the
// journal's business and comes with the next.
func (r *recorder) syncFailed(h *handle) {
	if h.ino == nil {
		return
	}
	for _, op := range h.ino.pending {
		op.doubt = op.doubt || !op.firm && op.data != nil
	}
}

// A line of strace is "thread call(arguments) = result"; every string in it is
// written as "\x41\x42", with dots behind where it was cut short.
type straceCall struct {
	name   string
	args   []string // with S for a string
	texts  []string // the strings
	result int64
}

// parseCall reads a line; ok is false for what is no finished call.
func parseCall(line string) (c straceCall, ok bool, err error) {
	open, equals := strings.IndexByte(line, '('), strings.LastIndex(line, " = ")
	if open < 0 || equals < open {
		return c, false, nil
	}
	c.name = line[:open]
	result, _, _ := strings.Cut(line[equals+3:], " ")
	if c.result, err = strconv.ParseInt(result, 10, 64); err != nil {
		return c, false, nil // "?": it was killed meanwhile
	}
	inside := strings.TrimSuffix(strings.TrimRight(line[open+1:equals], " "), ")")
	var plain strings.Builder
	for i, part := range strings.Split(inside, `"`) {
		if i%2 == 0 {
			if i > 0 && strings.HasPrefix(part, "...") {
				return c, false, fmt.Errorf("a string was cut short: %.80s", line)
			}
			plain.WriteString(part)
			continue
		}
		plain.WriteByte('S')
		text, err := hex.DecodeString(strings.ReplaceAll(part, `\x`, ""))
		if err != nil {
			return c, false, fmt.Errorf("%.80s: %w", line, err)
		}
		c.texts = append(c.texts, string(text))
	}
	c.args = strings.Split(plain.String(), ", ")
	return c, true, nil
}

// replay walks through what strace has written. What the process said comes to said.
func (r *recorder) replay(trace string, said func(line string)) error {
	f, err := os.Open(trace)
	if err != nil {
		return err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 16<<20)
	begun := map[string]string{}
	for sc.Scan() {
		thread, line, _ := strings.Cut(sc.Text(), " ")
		line = strings.TrimLeft(line, " ")
		if start, ok := strings.CutSuffix(line, " <unfinished ...>"); ok {
			begun[thread] = start
			continue
		}
		if strings.HasPrefix(line, "<... ") {
			_, tail, _ := strings.Cut(line, " resumed>")
			line = begun[thread] + tail
		}
		c, ok, err := parseCall(line)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		fd, _ := strconv.Atoi(c.args[0])
		if c.result < 0 {
			if h := r.fds[fd]; h != nil && strings.HasSuffix(c.name, "sync") {
				r.syncFailed(h)
			}
			continue
		}
		texts, args, result := c.texts, c.args, c.result
		h := r.fds[fd]
		switch call := c.name; {
		case call == "openat":
			delete(r.fds, int(result))
			name, ok := r.below(texts[0])
			if texts[0] == r.root {
				r.fds[int(result)] = &handle{dir: "."}
			}
			if !ok {
				break
			}
			ino := r.live[name]
			switch {
			case ino == nil:
				ino = &inode{}
				r.name(nameOp{to: name, ino: ino})
			case ino.folder:
				r.fds[int(result)] = &handle{dir: name}
				continue
			case strings.Contains(args[2], "O_TRUNC"):
				r.data(&dataOp{ino: ino})
			}
			r.fds[int(result)] = &handle{ino: ino, append: strings.Contains(args[2], "O_APPEND")}
		case call == "mkdirat":
			if name, ok := r.below(texts[0]); ok {
				r.name(nameOp{to: name, ino: &inode{folder: true}})
			}
		case call == "renameat" || call == "renameat2":
			from, _ := r.below(texts[0])
			to, ok := r.below(texts[1])
			if ok {
				r.name(nameOp{from: from, to: to, ino: r.live[from]})
			}
		case call == "unlinkat":
			if name, ok := r.below(texts[0]); ok {
				r.name(nameOp{from: name, ino: r.live[name]})
			}
		case fd == 1 && (call == "write" || call == "writev"):
			for line := range strings.Lines(texts[0]) {
				said(strings.TrimSpace(line))
			}
		case h == nil:
		case call == "close":
			delete(r.fds, fd)
		case call == "write":
			if h.append {
				h.offset = h.ino.size
			}
			r.data(&dataOp{ino: h.ino, off: h.offset, data: []byte(texts[0])})
			h.offset += result
		case call == "pwrite64":
			off, err := strconv.ParseInt(args[3], 10, 64)
			if err != nil {
				return fmt.Errorf("%.80s: %w", line, err)
			}
			r.data(&dataOp{ino: h.ino, off: off, data: []byte(texts[0])})
		case call == "ftruncate":
			size, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil {
				return fmt.Errorf("%.80s: %w", line, err)
			}
			r.data(&dataOp{ino: h.ino, truncate: size})
		case call == "fsync" || call == "fdatasync":
			r.sync(h)
		default:
			return fmt.Errorf("a call that the recorder does not know: %.80s", line)
		}
	}
	return sc.Err()
}

// chains sorts the pending names into those that hang together.
func (r *recorder) chains() [][]nameOp {
	var out [][]nameOp
	for _, op := range r.names {
		var joined []nameOp
		out = slices.DeleteFunc(out, func(c []nameOp) bool {
			for _, o := range c {
				if o.to == op.to && o.to != "" || o.to == op.from && o.to != "" || o.from == op.to && o.from != "" || o.ino == op.ino {
					joined = append(joined, c...)
					return true
				}
			}
			return false
		})
		out = append(out, append(joined, op))
	}
	return out
}

// choice says what of the pending happened. The zero value: nothing did.
type choice struct {
	done   map[*dataOp]bool
	chains []int   // how many of each chain
	torn   *dataOp // this one only in part:
	part   []byte  // so
	sub    bool    // torn inside of a sector
}

// state builds one: the files below root by name.
func (r *recorder) state(c choice) map[string][]byte {
	names := map[string]*inode{}
	for n, ino := range r.firm {
		names[n] = ino
	}
	for i, chain := range r.chains() {
		for _, op := range chain[:c.chains[i]] {
			op.apply(names)
		}
	}
	out := map[string][]byte{}
	for name, ino := range names {
		there := true
		for d := filepath.Dir(name); d != "."; d = filepath.Dir(d) {
			there = there && names[d] != nil
		}
		if ino.folder || !there {
			continue
		}
		content := slices.Clone(ino.content)
		for _, op := range ino.pending {
			if op == c.torn {
				content = applyTorn(content, op, c)
			} else if op.firm || c.done[op] {
				content = apply(content, op, op.data)
			}
		}
		out[name] = content
	}
	return out
}

// applyTorn writes the parts of c.part that are marked: sectors, or for a tear
// inside of one the first bytes.
func applyTorn(content []byte, op *dataOp, c choice) []byte {
	if c.sub {
		return apply(content, op, c.part)
	}
	for i, there := range c.part {
		if there != 0 {
			end := min((i+1)*512, len(op.data))
			content = apply(content, &dataOp{off: op.off + int64(i*512), data: op.data[i*512 : end]}, op.data[i*512:end])
		}
	}
	return content
}

// each calls fn for the states that hold newest; for all where newest is nil. Where
// there are few, for every one; else for those with all, none, one and all but one
// of the others, and some at random.
func (r *recorder) each(rnd *rand.Rand, newest any, fn func(c choice)) {
	var ops []*dataOp
	var inodes []*inode
	for _, ino := range r.live {
		inodes = append(inodes, ino)
	}
	for _, ino := range r.firm {
		if !slices.Contains(inodes, ino) {
			inodes = append(inodes, ino)
		}
	}
	for _, ino := range inodes {
		for _, op := range ino.pending {
			if !op.firm {
				ops = append(ops, op)
			}
		}
	}
	chains := r.chains()
	must, _ := newest.(*dataOp)
	if must != nil {
		ops = slices.DeleteFunc(ops, func(o *dataOp) bool { return o == must })
	}
	// A digit for each thing that can be or not be, with as many values.
	radix := make([]int, 0, len(ops)+len(chains))
	for range ops {
		radix = append(radix, 2)
	}
	for _, c := range chains {
		radix = append(radix, len(c)+1)
	}
	const few = 48
	all := 1
	for _, n := range radix {
		if all *= n; all > few {
			break
		}
	}
	var picks [][]int
	pick := func(digit func(i int) int) {
		d := make([]int, len(radix))
		for i := range d {
			d[i] = min(digit(i), radix[i]-1)
		}
		picks = append(picks, d)
	}
	if all <= few {
		for k := range all {
			at := k
			pick(func(i int) int { v := at % radix[i]; at /= radix[i]; return v })
		}
	} else {
		pick(func(int) int { return 0 })
		pick(func(i int) int { return radix[i] })
		for n := range min(len(radix), few) {
			pick(func(i int) int { return map[bool]int{true: radix[i]}[i == n] })
			pick(func(i int) int { return map[bool]int{false: radix[i]}[i == n] })
		}
		for range 16 {
			pick(func(i int) int { return rnd.IntN(radix[i]) })
		}
	}
	for n, d := range picks {
		c := choice{done: map[*dataOp]bool{}}
		for i, op := range ops {
			c.done[op] = d[i] == 1
		}
		c.chains = d[len(ops):]
		if op, ok := newest.(*nameOp); ok && !holds(chains, c.chains, op) {
			continue
		}
		if must == nil {
			fn(c)
			continue
		}
		c.done[must] = true
		fn(c)
		sectors := (len(must.data) + 511) / 512
		if sectors < 2 || n >= 4 && n < len(picks)-4 {
			continue
		}
		tear := func(there func(i int) bool) {
			c.torn, c.part = must, make([]byte, sectors)
			for i := range c.part {
				if there(i) {
					c.part[i] = 1
				}
			}
			fn(c)
		}
		for k := 1; k < sectors; k += max(1, sectors/8) {
			tear(func(i int) bool { return i < k })
		}
		tear(func(int) bool { return rnd.IntN(2) == 0 })
		if must.off < 2*PageSize && len(must.data) == PageSize { // a meta page, on a card that tears sectors too
			for range 2 {
				c.sub, c.part = true, must.data[:pageHeader+1+rnd.IntN(63)]
				fn(c)
			}
		}
	}
}

// holds reports whether a choice of the chains has done op.
func holds(chains [][]nameOp, n []int, op *nameOp) bool {
	for i, chain := range chains {
		for _, o := range chain[:n[i]] {
			if o == *op {
				return true
			}
		}
	}
	return false
}

// promises is what the process has said: what it began, and what it acknowledged.
type promises struct {
	began   map[int]bool
	acked   map[int]uint64               // tap → number
	settled map[string]map[uint64]string // destination → number → fate, acknowledged
	trying  map[string]map[uint64]string // the same, begun
	unsure  map[string]map[uint64]string // begun by a process that was killed: done or not
	version int
}

func newPromises() *promises {
	return &promises{began: map[int]bool{}, acked: map[int]uint64{}, settled: map[string]map[uint64]string{}, trying: map[string]map[uint64]string{}}
}

func (p *promises) hear(line string) error {
	p.version++
	f := strings.Fields(line)
	fates := func(m map[string]map[uint64]string) error {
		if m[f[1]] == nil {
			m[f[1]] = map[uint64]string{}
		}
		for _, w := range f[2:] {
			num, fate, _ := strings.Cut(w, "=")
			n, err := strconv.ParseUint(num, 10, 64)
			if err != nil {
				return err
			}
			m[f[1]][n] = fate
		}
		return nil
	}
	switch f[0] {
	case "begin":
		for _, w := range f[1:] {
			n, err := strconv.Atoi(w)
			if err != nil {
				return err
			}
			p.began[n] = true
		}
	case "ack":
		n, err := strconv.Atoi(f[1])
		seq, err2 := strconv.ParseUint(f[2], 10, 64)
		if err != nil || err2 != nil {
			return fmt.Errorf("the process says %q", line)
		}
		p.acked[n] = seq
	case "settle":
		return fates(p.trying)
	case "settled":
		p.trying = map[string]map[uint64]string{}
		return fates(p.settled)
	default:
		return fmt.Errorf("the process says %q", line)
	}
	return nil
}

func statesOptions(dir string) Options {
	return Options{Dir: filepath.Join(dir, "outbox"), Mirror: filepath.Join(dir, "mirror"), Device: "states", Destinations: []string{"104", "feishu"}, SegmentRecords: 16, ahead: 32 << 10}
}

// statesChild is the process that is recorded: a small working day.
func statesChild(dir string) error {
	o := statesOptions(dir)
	o.UnsafeNoSync = os.Getenv("OUTBOX_NOSYNC") != ""
	early := os.Getenv("OUTBOX_ACK") == "early"
	punches, _ := strconv.Atoi(os.Getenv("OUTBOX_PUNCHES"))
	b, err := Open(o)
	if err != nil {
		return err
	}
	seed, _ := strconv.Atoi(os.Getenv("OUTBOX_SEED"))
	rnd := rand.New(rand.NewPCG(uint64(seed), 3))
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	for i := 0; i < punches; {
		n := 1
		if rnd.IntN(5) == 0 {
			n = 2 + rnd.IntN(8)
		}
		begin := "begin"
		for k := range n {
			begin += fmt.Sprint(" ", i+k)
		}
		say("%s", begin)
		if early { // the negative control: promised before it is kept
			for k := range n {
				say("ack %d %d", i+k, i+k+1)
			}
		}
		var wg sync.WaitGroup
		got := make([]uint64, n)
		errs := make([]error, n)
		for k := range n {
			wg.Go(func() {
				p, err := b.Append(draft(i + k))
				got[k], errs[k] = p.Seq, err
			})
		}
		wg.Wait()
		for k := range n {
			if errs[k] != nil {
				return errs[k]
			}
			if !early {
				say("ack %d %d", i+k, got[k])
			}
		}
		i += n
		dest := o.Destinations[rnd.IntN(2)]
		switch rnd.IntN(6) {
		case 0, 1:
			ps, err := b.Next(dest, 1+rnd.IntN(9))
			if err != nil {
				return err
			}
			var vs []punch.Verdict
			words := ""
			for _, p := range ps {
				v := punch.Verdict{ID: p.ID, Fate: punch.Accept, Attempts: 1, Receipt: "r-" + string(p.ID)}
				switch rnd.IntN(6) {
				case 0:
					continue // no answer for this one
				case 1:
					v.Fate, v.Receipt, v.Reason, v.Message = punch.Refuse, "", "emp_no_unknown", "員工編號不存在"
					words += fmt.Sprintf(" %d=parked", p.Seq)
				default:
					words += fmt.Sprintf(" %d=done", p.Seq)
				}
				vs = append(vs, v)
			}
			say("settle %s%s", dest, words)
			if err := b.Settle(dest, vs); err != nil {
				return err
			}
			say("settled %s%s", dest, words)
		case 2:
			parked, err := b.Parked(dest)
			if err != nil {
				return err
			}
			words := ""
			for _, p := range parked {
				words += fmt.Sprintf(" %d=again", p.Seq)
			}
			say("settle %s%s", dest, words)
			if _, err := b.Retry(dest); err != nil {
				return err
			}
			say("settled %s%s", dest, words)
		}
		if rnd.IntN(3) == 0 {
			if err := b.Tidy(); err != nil {
				return err
			}
		}
		if rnd.IntN(4) == 0 {
			if err := b.copyMirror(context.Background()); err != nil {
				return err
			}
		}
		if rnd.IntN(12) == 0 { // a restart
			if err := b.Close(); err != nil {
				return err
			}
			if b, err = Open(o); err != nil {
				return err
			}
		}
	}
	return b.Close()
}

// record runs the process under strace.
func record(t *testing.T, punches int, env ...string) (base, trace string) {
	t.Helper()
	base = memoryDir(t)
	trace = filepath.Join(memoryDir(t), "trace")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := strace(t, ctx, "-xx", "-s", "300000", "-o", trace,
		"-e", "trace=openat,close,write,pwrite64,pwritev,fsync,fdatasync,ftruncate,fallocate,renameat,renameat2,unlinkat,mkdirat,linkat,sync_file_range", os.Args[0])
	cmd.Env = append(os.Environ(), "OUTBOX_CHILD="+base, "OUTBOX_MODE=states", "OUTBOX_PUNCHES="+strconv.Itoa(punches))
	cmd.Env = append(cmd.Env, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the recorded process: %v\n%s", err, out)
	}
	return base, trace
}

// memoryDir returns a new folder, in memory where the machine has one to offer:
// what the medium keeps is the recorder's business, and a disk would only be slow.
func memoryDir(t *testing.T) string {
	t.Helper()
	base := "/dev/shm"
	if d, err := os.Stat(base); err != nil || !d.IsDir() {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "punchclock-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// strace returns a command that runs the rest under strace, all threads followed.
func strace(t *testing.T, ctx context.Context, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("this test needs strace: apt-get install strace")
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"-f", "-qq", "-e", "signal=none"}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// tally is what came of the states.
type tally struct {
	states, torn int
	bad          map[string]int
	slowest      time.Duration
}

func (y *tally) add(o tally) {
	y.states += o.states
	y.torn += o.torn
	y.slowest = max(y.slowest, o.slowest)
	for k, n := range o.bad {
		y.bad[k] += n
	}
}

func (y tally) String() string {
	return fmt.Sprintf("%d states (%d of them with a meta page torn inside a sector), slowest start %v, bad: %v", y.states, y.torn, y.slowest.Round(time.Millisecond), y.bad)
}

// crashStates builds and opens the states of a recorded run, one in stride, and
// at most most of them; explain hears of each bad one.
func crashStates(t *testing.T, base, trace string, stride, most int, explain func(what, why string)) tally {
	t.Helper()
	y := tally{bad: map[string]int{}}
	rnd := rand.New(rand.NewPCG(1, uint64(stride)))
	said, r := newPromises(), newRecorder(base)
	seen := map[[32]byte]bool{}
	n, step := 0, 0
	work := filepath.Join(memoryDir(t), "state")
	try := func(newest any, what string) {
		step++
		r.each(rnd, newest, func(c choice) {
			if n++; n%stride != 0 || y.states >= most {
				return
			}
			files := r.state(c)
			h := sha256.New()
			fmt.Fprint(h, said.version, c.sub)
			for _, name := range slices.Sorted(maps.Keys(files)) {
				fmt.Fprint(h, name, len(files[name]))
				h.Write(files[name])
			}
			if id := [32]byte(h.Sum(nil)); seen[id] {
				return
			} else {
				seen[id] = true
			}
			y.states++
			if c.sub {
				y.torn++
			}
			took, why := openState(work, files, said, c.sub)
			y.slowest = max(y.slowest, took)
			for kind, w := range why {
				y.bad[kind]++
				explain(fmt.Sprintf("step %d, %s, %d things pending of which %d done, torn %v", step, what, len(c.done), count(c.done), c.torn != nil), kind+": "+w)
			}
		})
	}
	r.news = try
	err := r.replay(trace, func(line string) {
		if err := said.hear(line); err != nil {
			t.Fatal(err)
		}
		try(nil, line)
	})
	if err != nil {
		t.Fatal(err)
	}
	return y
}

func count(m map[*dataOp]bool) (n int) {
	for _, ok := range m {
		if ok {
			n++
		}
	}
	return n
}

// openState lays the files out, starts an outbox on them as the clock does, and
// returns what is wrong with it, by kind.
func openState(dir string, files map[string][]byte, said *promises, tornMeta bool) (took time.Duration, why map[string]string) {
	why = map[string]string{}
	os.RemoveAll(dir)
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		why["harness"] = err.Error()
		return
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errorsOf(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
			why["harness"] = err.Error()
			return
		}
	}
	took, more := examine(dir, said, tornMeta)
	maps.Copy(why, more)
	return took, why
}

// examine starts an outbox in dir and holds it against what was said.
func examine(dir string, said *promises, tornMeta bool) (took time.Duration, why map[string]string) {
	why = map[string]string{}
	defer func() {
		if r := recover(); r != nil {
			why["panic"] = fmt.Sprint(r)
		}
	}()
	var newest uint64 // the highest number that was promised
	for _, seq := range said.acked {
		newest = max(newest, seq)
	}
	if newest > 0 {
		if m, _, err := readMark(filepath.Join(dir, "outbox")); err != nil || m <= newest {
			why["mark"] = fmt.Sprintf("high-water mark %d (%v), number %d was given out", m, err, newest)
		}
	}
	begin := time.Now()
	o := statesOptions(dir)
	o.UnsafeNoSync = true // the medium of this second life is not what is on trial
	b, err := Open(o)
	took = time.Since(begin)
	if err != nil {
		why["no start"] = err.Error()
		return
	}
	defer b.Close()
	if s := b.Incident(); s != "" && !tornMeta {
		why["incident"] = s
	}
	chain := func() {
		c, err := b.Verify(context.Background(), nil)
		if err != nil {
			why["chain"] = err.Error()
		} else if len(c.Problems) > 0 {
			why["chain"] = fmt.Sprint(c.Problems)
		}
	}
	chain()
	there := func() map[int][]uint64 {
		m := map[int][]uint64{}
		err := b.Read(context.Background(), 1, func(e Entry) error {
			i := int(binary.BigEndian.Uint32(e.Tap[1:]))
			m[i] = append(m[i], e.Seq)
			want := draft(i)
			if e.Damaged != nil || e.Badge != want.Badge || e.Employee != want.Employee || e.Kind != want.Kind || e.Stamp != want.Stamp ||
				e.Tap != want.Tap || !bytes.Equal(e.Raw, want.Raw) || e.ID != punch.NewID("states", e.Seq) {
				why["altered"] = fmt.Sprintf("%+v", e)
			}
			return nil
		})
		if err != nil {
			why["unreadable"] = err.Error()
		}
		return m
	}
	first := there()
	for i, seqs := range first {
		if !said.began[i] {
			why["altered"] = fmt.Sprintf("punch %d was never made", i)
		}
		if len(seqs) > 1 {
			why["twice"] = fmt.Sprintf("tap %d has the numbers %v", i, seqs)
		}
	}
	for i, seq := range said.acked {
		if !slices.Contains(first[i], seq) {
			why["lost"] = fmt.Sprintf("punch %d, promised as number %d, is %v", i, seq, first[i])
		}
	}
	for dest, cur := range b.cursors {
		offered := map[uint64]bool{}
		ps, err := b.Next(dest, 1<<20)
		if err != nil {
			why["position"] = err.Error()
		}
		for _, p := range ps {
			offered[p.Seq] = true
		}
		for _, seqs := range first {
			seq := seqs[0]
			is := "pending"
			if e, parked := cur.parked[seq]; parked && e.again {
				is = "again"
			} else if parked {
				is = "parked"
			} else if cur.pos.has(seq) {
				is = "done"
			}
			was := said.settled[dest][seq]
			if was == "" {
				was = "pending"
			}
			if is != was && is != said.trying[dest][seq] && is != said.unsure[dest][seq] {
				why["position"] = fmt.Sprintf("%s: number %d is %s, was %s, about to be %q", dest, seq, is, was, said.trying[dest][seq])
			}
			if offered[seq] != (is == "pending" || is == "again") {
				why["position"] = fmt.Sprintf("%s: number %d is %s, offered: %v", dest, seq, is, offered[seq])
			}
		}
	}
	// People whose tap was under way come again; then somebody new.
	for i := range said.began {
		if _, ok := said.acked[i]; !ok {
			if _, err := b.Append(draft(i)); err != nil {
				why["no punch"] = err.Error()
			}
		}
	}
	const fresh = 900_000
	p, err := b.Append(draft(fresh))
	if took = time.Since(begin); err != nil {
		why["no punch"] = err.Error()
	} else if p.Seq <= newest {
		why["number"] = fmt.Sprintf("number %d was given before, up to %d", p.Seq, newest)
	}
	said.began[fresh] = true
	last := there()
	delete(said.began, fresh)
	for i, seqs := range last {
		if len(seqs) != 1 || p.Seq < seqs[0] {
			why["twice"] = fmt.Sprintf("after the taps that came again: %d has the numbers %v, the newest is %d", i, seqs, p.Seq)
		}
	}
	chain()
	if took > 5*time.Second {
		why["slow"] = took.String()
	}
	return took, why
}

// explainer fails the test for the first bad states, and stays silent after.
func explainer(t *testing.T) func(what, why string) {
	n := 0
	return func(what, why string) {
		if n++; n <= 10 {
			t.Errorf("%s:\n\t%s", what, why)
		}
	}
}

func TestEveryCrashStateKeepsWhatWasPromised(t *testing.T) {
	punches, least := 24, 250
	if v := os.Getenv("CRASH_STATES"); v != "" {
		least, _ = strconv.Atoi(v)
		punches = 100
	}
	sum := tally{bad: map[string]int{}}
	days := 0
	for ; sum.states < least && days < 200 && !t.Failed(); days++ {
		base, trace := record(t, punches, "OUTBOX_SEED="+strconv.Itoa(days))
		sum.add(crashStates(t, base, trace, 1, 1<<30, explainer(t)))
		os.Remove(trace) // some 20 MB
	}
	t.Logf("%d runs of %d punches: %v", days, punches, sum)
	if len(sum.bad) > 0 || sum.states < least {
		t.Errorf("%v; at least %d are wanted and none bad", sum, least)
	}
}

// The negative controls: a clock that beeps before the commit, and one that never
// syncs, lose punches in these states.
func TestCrashStatesFindAClockThatPromisesTooEarly(t *testing.T) {
	base, trace := record(t, 24, "OUTBOX_ACK=early")
	y := crashStates(t, base, trace, 3, 150, func(string, string) {})
	t.Logf("%v", y)
	if y.bad["lost"] == 0 {
		t.Error("nothing is lost although every promise came before the commit: the crash states prove nothing")
	}
}

func TestCrashStatesFindAClockThatNeverSyncs(t *testing.T) {
	base, trace := record(t, 24, "OUTBOX_NOSYNC=1")
	y := crashStates(t, base, trace, 41, 150, func(string, string) {})
	t.Logf("%v", y)
	if y.bad["lost"] == 0 {
		t.Error("nothing is lost although nothing was ever synced: the crash states prove nothing")
	}
}
