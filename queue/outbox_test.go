package queue

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"punchclock/queue/punch"
)

var boot1 = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func draft(n int) punch.Draft {
	t := time.UnixMilli(1_790_000_000_000 + int64(n)*1000).UTC()
	return punch.Draft{
		Tap: punch.Tap{1, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, Kind: punch.Kinds[n%4],
		Badge: punch.Badge(fmt.Sprintf("em:0A%08X", n)), Raw: []byte{0x0A, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, Bits: 40,
		Employee: fmt.Sprintf("%06d", n%97), Reader: "front", Outcome: punch.Stored,
		Stamp: punch.Stamp{Wall: t, BootID: boot1, Uptime: time.Duration(n) * time.Second, Clock: punch.Synced, ErrorBound: 12 * time.Millisecond},
	}
}

// open opens an outbox and checks its file, its chain and its counts when the test ends.
func open(t testing.TB, o Options) *Outbox {
	t.Helper()
	if o.Device == "" {
		o.Device = "test-1"
	}
	if o.Destinations == nil {
		o.Destinations = []string{"104", "feishu"}
	}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if b.closedNow() {
			return
		}
		check(t, b)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (o *Outbox) closedNow() bool { o.mu.RLock(); defer o.mu.RUnlock(); return o.closed }

func check(t testing.TB, b *Outbox) {
	t.Helper()
	c, err := b.Verify(context.Background(), nil)
	if err != nil {
		t.Error(err)
	}
	for _, p := range c.Problems {
		t.Errorf("chain: %s: %s", p.ID, p.What)
	}
	if err := CheckFile(b.cur.path); err != nil {
		t.Error(err)
	}
}

func appendN(t testing.TB, b *Outbox, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		if _, err := b.Append(draft(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func accept(ps []punch.Punch) []punch.Verdict {
	var v []punch.Verdict
	for _, p := range ps {
		v = append(v, punch.Verdict{ID: p.ID, Fate: punch.Accept, Attempts: 1})
	}
	return v
}

func seqs(ps []punch.Punch) string {
	var s []string
	for _, p := range ps {
		s = append(s, fmt.Sprint(p.Seq))
	}
	return strings.Join(s, " ")
}

func TestStoredFormIsTheGoldenOne(t *testing.T) {
	d := draft(7)
	d.Supersedes = 3
	plain, err := encodeRecord(8, genesis("tpe-1f-lobby"), &d)
	if err != nil {
		t.Fatal(err)
	}
	d.Badge, d.Raw, d.Bits, d.Supersedes, d.Kind, d.Outcome = "uid:04A1B2C3D4E5F6", []byte{4, 0xA1, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6}, 56, 0, punch.Return, punch.Duplicate
	d.Stamp.Clock, d.Stamp.ErrorBound = punch.Unset, punch.MaxErrorBound
	other, err := encodeRecord(9, hashRecord(8, plain), &d)
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1_790_000_000_123)
	var groups = []receiptGroup{
		{first: 8, last: 57, Receipt: punch.Receipt{State: punch.Delivered, Attempts: 1, At: at}},
		{first: 58, last: 58, Receipt: punch.Receipt{State: punch.Delivered, Attempts: 3, Resent: true, Receipt: "6709359313699356941", At: at}},
		{first: 60, last: 60, Receipt: punch.Receipt{State: punch.Parked, Attempts: 1, Reason: "emp_no_unknown", Message: "員工編號不存在", At: at}},
	}
	sealed := func(k, v []byte) []byte {
		return binary.BigEndian.AppendUint32(v, checksum(k, v))
	}
	got := fmt.Sprintf("record 8\n%x\nrecord 9\n%x\nhash 9\n%x\nreceipts\n%x\nposition\n%x\nparked\n%x\n", plain, other, hashRecord(9, other), sealed(append(seqKey(8), seqKey(1)...), encodeReceipts(groups)),
		sealed([]byte("104"), position{seq: 57, runs: []run{{60, 60}, {70, 300}}}.encode()),
		sealed(seqKey(60), parkedEntry{again: true, first: at, last: at.Add(time.Hour), tries: 2, reason: "emp_no_unknown", message: "員工編號不存在"}.encode()))
	name := filepath.Join("testdata", "stored-form.golden")
	want, err := os.ReadFile(name)
	if os.IsNotExist(err) && os.Getenv("UPDATE_GOLDEN") != "" {
		want = []byte(got)
		err = os.WriteFile(name, want, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the stored form has changed; outboxes in the field could not be read.\ngot:\n%swant:\n%s", got, want)
	}
	if len(plain)+8 > 152 || len(other)+8 > 152 {
		t.Errorf("records of %d and %d bytes: six of them do not fit the root page", len(plain)+8, len(other)+8)
	}
	// What was written by this program once is read by it for ever.
	lines := strings.Split(string(want), "\n")
	v, _ := hex.DecodeString(lines[1])
	p, err := decodeRecord("tpe-1f-lobby", 8, v)
	if err != nil || p.Supersedes != 3 || p.Employee != "000007" || p.Badge != "em:0A00000007" || p.Kind != punch.Return || p.Stamp.Uptime != 7*time.Second {
		t.Errorf("decoded %+v, %v", p, err)
	}
}

func TestRecordSurvivesAnUnknownExtension(t *testing.T) {
	d := draft(1)
	v, _ := encodeRecord(1, genesis("x"), &d)
	body := v[: len(v)-5 : len(v)-5]
	body = append(body, 200, 3, 'n', 'e', 'w', 0)
	sum := checksum(seqKey(1), body)
	body = append(body, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
	if p, err := decodeRecord("x", 1, body); err != nil || p.Employee != d.Employee {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestEveryFlippedBitOfARecordIsFound(t *testing.T) {
	d := draft(1)
	v, _ := encodeRecord(1, genesis("x"), &d)
	for i := range len(v) * 8 {
		w := append([]byte(nil), v...)
		w[i/8] ^= 1 << (i % 8)
		if _, err := decodeRecord("x", 1, w); !errors.Is(err, errDamaged) {
			t.Fatalf("bit %d: %v", i, err)
		}
	}
	if _, err := decodeRecord("x", 2, v); !errors.Is(err, errDamaged) {
		t.Error("a record under another number is accepted")
	}
}

func FuzzDecodeRecord(f *testing.F) {
	d := draft(1)
	v, _ := encodeRecord(1, genesis("x"), &d)
	f.Add(v)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4 { // let the fuzzer behind the checksum
			body := b[: len(b)-4 : len(b)-4]
			sum := checksum(seqKey(1), body)
			b = append(body, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
		}
		p, err := decodeRecord("x", 1, b)
		if err == nil {
			if _, err := encodeRecord(1, p.PrevHash, &p.Draft); err != nil && len(p.Raw) <= maxRaw && len(p.Employee) <= maxText && len(p.Reader) <= maxText &&
				len(p.Badge) <= punch.MaxBadge && p.Bits <= 8*len(p.Raw) && p.Bits >= 0 {
				t.Errorf("decoded %+v, which cannot be written: %v", p, err)
			}
		}
		decodeReceipts(b)
		decodeParked(b)
		decodePosition(b)
	})
}

func TestPunchIsThereAfterReopening(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Options{Dir: dir})
	var ids []punch.ID
	for i := range 20 {
		p, err := b.Append(draft(i))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, p.ID)
	}
	if ids[0] != "test-1-000000000001" || ids[19] != "test-1-000000000020" {
		t.Errorf("ids %v", ids)
	}
	check(t, b)
	b.Close()
	b = open(t, Options{Dir: dir})
	ps, err := b.Next("104", 100)
	if err != nil || len(ps) != 20 {
		t.Fatalf("%d punches, %v", len(ps), err)
	}
	for i, p := range ps {
		want := draft(i)
		if p.ID != ids[i] || p.Employee != want.Employee || p.Badge != want.Badge || !p.Stamp.Wall.Equal(want.Stamp.Wall) || p.Kind != want.Kind ||
			string(p.Raw) != string(want.Raw) || p.Bits != 40 || p.Stamp != want.Stamp {
			t.Errorf("punch %d came back as %+v", i, p)
		}
	}
	if p, err := b.Append(draft(20)); err != nil || p.Seq != 21 {
		t.Errorf("%v, %v", p.Seq, err)
	}
}

func TestSameTapIsNeverTwoPunches(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Options{Dir: dir})
	first, _ := b.Append(draft(1))
	again, err := b.Append(draft(1))
	if err != nil || again.ID != first.ID {
		t.Errorf("%v %v %v", first.ID, again.ID, err)
	}
	b.Close()
	b = open(t, Options{Dir: dir})
	if again, err = b.Append(draft(1)); err != nil || again.ID != first.ID || again.Hash != first.Hash {
		t.Errorf("after reopening: %v %v %v", first.ID, again.ID, err)
	}
	var wg sync.WaitGroup
	ids := make([]punch.ID, 16)
	for i := range ids {
		wg.Go(func() { p, _ := b.Append(draft(2)); ids[i] = p.ID })
	}
	wg.Wait()
	for _, id := range ids {
		if id != "test-1-000000000002" {
			t.Errorf("ids %v", ids)
			break
		}
	}
}

func TestTapsTogetherAreCommittedTogether(t *testing.T) {
	b := open(t, Options{Dir: t.TempDir()})
	var mu sync.Mutex
	commits, punches := 0, 0
	b.OnCommit(func(_ time.Duration, n int) { mu.Lock(); commits++; punches += n; mu.Unlock() })
	b.wmu.Lock() // a slow commit is under way
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if _, err := b.Append(draft(i)); err != nil {
				t.Error(err)
			}
		})
	}
	for {
		b.qmu.Lock()
		n := len(b.queue)
		b.qmu.Unlock()
		if n == 16 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	b.wmu.Unlock()
	wg.Wait()
	if commits != 1 || punches != 16 {
		t.Errorf("%d punches in %d commits", punches, commits)
	}
}

func TestSettleMovesThePositionOverWhatIsSettled(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Options{Dir: dir})
	appendN(t, b, 0, 10)
	next := func() string {
		ps, err := b.Next("104", 100)
		if err != nil {
			t.Fatal(err)
		}
		return seqs(ps)
	}
	id := func(n uint64) punch.ID { return punch.NewID("test-1", n) }
	err := b.Settle("104", []punch.Verdict{{ID: id(1), Fate: punch.Accept, Receipt: "r-1", Attempts: 1}, {ID: id(2)},
		{ID: id(3), Fate: punch.Refuse, Reason: "emp_no_unknown", Message: "員工編號不存在", Attempts: 1}, {ID: id(5), Fate: punch.Accept, Attempts: 2, Resent: true}})
	if err != nil {
		t.Fatal(err)
	}
	want := "2 4 6 7 8 9 10"
	if got := next(); got != want {
		t.Errorf("next %s, want %s", got, want)
	}
	if s := b.Stats().Destinations; s["104"].Pending != 7 || s["104"].Parked != 1 || s["feishu"].Pending != 10 {
		t.Errorf("stats %+v", s)
	}
	b.Close()
	b = open(t, Options{Dir: dir})
	if got := next(); got != want {
		t.Errorf("after reopening: next %s, want %s", got, want)
	}
	if n, err := b.Retry("104", id(3)); n != 1 || err != nil {
		t.Errorf("retry: %d %v", n, err)
	}
	if got := next(); got != "2 3 4 6 7 8 9 10" {
		t.Errorf("a retried punch is not in its old place: %s", got)
	}
	ps, _ := b.Next("104", 100)
	if err := b.Settle("104", accept(ps)); err != nil {
		t.Fatal(err)
	}
	if err := b.Settle("104", accept(ps)); err != nil { // repeated
		t.Fatal(err)
	}
	if got := next(); got != "" {
		t.Errorf("left over: %s", got)
	}
	var states []string
	err = b.Read(context.Background(), 1, func(e Entry) error {
		r := e.Deliveries["104"]
		states = append(states, fmt.Sprintf("%s/%d/%s/%v", r.State, r.Attempts, r.Receipt, r.Resent))
		if e.Deliveries["feishu"].State != punch.Pending {
			t.Errorf("feishu: %+v", e.Deliveries["feishu"])
		}
		return nil
	})
	if got := strings.Join(states, " "); err != nil || got != "delivered/1/r-1/false delivered/1//false delivered/2//false delivered/1//false delivered/2//true "+
		"delivered/1//false delivered/1//false delivered/1//false delivered/1//false delivered/1//false" {
		t.Errorf("%v %v", got, err)
	}
	if err := b.Settle("104", []punch.Verdict{{ID: "other-000000000001", Fate: punch.Accept}}); err == nil {
		t.Error("a verdict about another device's punch is accepted")
	}
}

func TestUnknownBadgeIsDeliveredOnceTheRosterKnowsIt(t *testing.T) {
	dir := t.TempDir()
	known := map[punch.Badge]string{}
	var mu sync.Mutex
	o := Options{Dir: dir, Who: func(b punch.Badge, _ time.Time) (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		e, ok := known[b]
		return e, ok
	}}
	b := open(t, o)
	d := draft(1)
	d.Employee, d.Outcome = "", punch.UnknownBadge
	p, err := b.Append(d)
	if err != nil {
		t.Fatal(err)
	}
	b.Settle("104", []punch.Verdict{{ID: p.ID, Fate: punch.Refuse, Reason: punch.ReasonUnknownBadge}})
	if n, _ := b.Relink(); n != 0 {
		t.Errorf("linked %d with an empty roster", n)
	}
	mu.Lock()
	known[d.Badge] = "000042"
	mu.Unlock()
	if n, err := b.Relink(); n != 1 || err != nil {
		t.Errorf("linked %d, %v", n, err)
	}
	mu.Lock()
	known[d.Badge] = "000099" // the card is given to somebody else: the past stays
	mu.Unlock()
	b.Close()
	b = open(t, o)
	for _, dest := range []string{"104", "feishu"} {
		ps, err := b.Next(dest, 10)
		if err != nil || len(ps) != 1 || ps[0].Employee != "000042" || !ps[0].Time().Equal(d.Stamp.Wall) {
			t.Errorf("%s: %+v %v", dest, ps, err)
		}
	}
}

func TestPunchMadeBeforeTheClockWasRightIsHeldThenCorrected(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Options{Dir: dir, BootID: boot1})
	d := draft(1)
	d.Stamp = punch.Stamp{Wall: time.UnixMilli(1000), BootID: boot1, Uptime: 90 * time.Second, Clock: punch.Unset, ErrorBound: punch.MaxErrorBound}
	b.Append(d)
	if ps, err := b.Next("104", 10); err != nil || len(ps) != 0 {
		t.Fatalf("sent with a false time: %v %v", ps, err)
	}
	began := time.UnixMilli(1_790_000_000_000).UTC()
	if err := b.SetBootTime(boot1, began); err != nil {
		t.Fatal(err)
	}
	b.SetBootTime(boot1, began.Add(time.Hour)) // a later word changes nothing that may have been sent
	b.Close()
	b = open(t, Options{Dir: dir, BootID: [16]byte{9}})
	ps, err := b.Next("104", 10)
	if err != nil || len(ps) != 1 || !ps[0].Time().Equal(began.Add(90*time.Second)) || !ps[0].Stamp.Wall.Equal(time.UnixMilli(1000)) {
		t.Errorf("%+v %v", ps, err)
	}
	d = draft(2)
	d.Stamp.Clock, d.Stamp.BootID = punch.Unset, [16]byte{8}
	b.Append(d)
	ps, _ = b.Next("104", 10)
	if len(ps) != 2 || !ps[1].Uncertain {
		t.Errorf("a punch of a boot that never learned the time is sent silently: %+v", ps)
	}
}

func TestSecondProcessIsTurnedAway(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Options{Dir: dir})
	appendN(t, b, 0, 1)
	if _, err := Open(Options{Dir: dir, Device: "test-1"}); !errors.Is(err, ErrInUse) {
		t.Errorf("second opener: %v", err)
	}
	b.Close()
	if _, err := Open(Options{Dir: dir, Device: "other"}); !errors.Is(err, ErrOtherDevice) {
		t.Errorf("other device: %v", err)
	}
}

func TestClockStartsWhileSomebodyReads(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Options{Dir: dir})
	appendN(t, b, 0, 1)
	b.Close()
	reader, err := Open(Options{Dir: dir, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan error)
	go func() {
		b, err := Open(Options{Dir: dir, Device: "test-1"})
		if err == nil {
			err = b.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("opened for writing while somebody reads: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("after the reader has ended: %v", err)
	}
}

func TestSegmentsAreOneLog(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, SegmentRecords: 25}
	b := open(t, o)
	b.Settle("104", nil)
	var parked punch.ID
	for i := range 110 {
		p, err := b.Append(draft(i))
		if err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			parked = p.ID
			b.Settle("104", []punch.Verdict{{ID: p.ID, Fate: punch.Refuse, Reason: "x", Message: "y"}})
		}
		if i%10 == 9 {
			if err := b.Tidy(); err != nil {
				t.Fatal(err)
			}
		}
	}
	firsts, _ := listSegments(dir)
	if len(firsts) != 4 {
		t.Errorf("segments %v", firsts)
	}
	for round := range 2 {
		ps, err := b.Next("104", 1000)
		if err != nil || len(ps) != 109 || ps[0].Seq != 1 || ps[108].Seq != 110 {
			t.Fatalf("round %d: %d punches, %v: %s", round, len(ps), err, seqs(ps))
		}
		list, _ := b.Parked("104")
		if len(list) != 1 || list[0].ID != parked || list[0].Reason != "x" || list[0].Badge != draft(3).Badge {
			t.Errorf("parked: %+v", list)
		}
		check(t, b)
		b.Close()
		b = open(t, o)
	}
	ps, _ := b.Next("104", 60)
	b.Settle("104", accept(ps))
	b.Retry("104")
	ps, _ = b.Next("104", 1000)
	if len(ps) != 50 || ps[0].Seq != 4 {
		t.Errorf("%d %s", len(ps), seqs(ps))
	}
	b.Settle("104", accept(ps))
	n := 0
	b.Read(context.Background(), 1, func(e Entry) error {
		if n++; e.Seq != uint64(n) || e.Deliveries["104"].State != punch.Delivered || e.Deliveries["feishu"].State != punch.Pending {
			t.Errorf("entry %d: %+v", n, e)
		}
		return nil
	})
	if n != 110 {
		t.Errorf("%d entries", n)
	}
}

func TestFullDiskIsSaidBeforeThePunchIsPromised(t *testing.T) {
	b := open(t, Options{Dir: t.TempDir(), Reserve: 1 << 60})
	if _, err := b.Append(draft(1)); !errors.Is(err, ErrFull) {
		t.Errorf("append: %v", err)
	}
	if err := b.Writable(context.Background()); !errors.Is(err, ErrFull) {
		t.Errorf("writable: %v", err)
	}
	if s := b.Stats(); s.LastSeq != 0 {
		t.Errorf("stored %d", s.LastSeq)
	}
}

func TestReadOnlyOpensBesideNobodyAndChangesNothing(t *testing.T) {
	dir := t.TempDir()
	b := open(t, Options{Dir: dir})
	appendN(t, b, 0, 8)
	b.Close()
	before, _ := os.ReadFile(segmentPath(dir, 1))
	r, err := Open(Options{Dir: dir, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if r.Device() != "test-1" {
		t.Errorf("device %q", r.Device())
	}
	n := 0
	r.Read(context.Background(), 1, func(Entry) error { n++; return nil })
	if _, err := r.Append(draft(9)); err == nil || n != 8 {
		t.Errorf("append to a read-only outbox: %v; %d entries", err, n)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	after, _ := os.ReadFile(segmentPath(dir, 1))
	if string(before) != string(after) {
		t.Error("reading has changed the file")
	}
	// Without its file an outbox that gave out numbers is not one that is new.
	if err := os.Remove(segmentPath(dir, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir, ReadOnly: true}); err == nil || !strings.Contains(err.Error(), "missing") || !strings.Contains(err.Error(), "punchclock recover") {
		t.Errorf("the file is gone: %v", err)
	}
}

func TestWhatIsHandedInFirstHasTheLowerNumberWhoeverWaitsForIt(t *testing.T) {
	b := open(t, Options{Dir: t.TempDir()})
	const n = 300
	var all []func() (punch.Punch, error)
	for i := range n {
		all = append(all, b.Enqueue(draft(i)))
	}
	var waiting sync.WaitGroup
	for i := n - 1; i >= 0; i-- { // the last one is asked for first
		waiting.Go(func() {
			if p, err := all[i](); err != nil || p.Seq != uint64(i+1) || p.Employee != draft(i).Employee {
				t.Errorf("handed in as number %d, stored as %d: %v", i+1, p.Seq, err)
			}
		})
	}
	waiting.Wait()
	// And one waiter for all of them.
	all = nil
	for i := range n {
		all = append(all, b.Enqueue(draft(n+i)))
	}
	for i, stored := range all {
		if p, err := stored(); err != nil || p.Seq != uint64(n+i+1) {
			t.Fatalf("handed in as number %d, stored as %d: %v", n+i+1, p.Seq, err)
		}
	}
}

func TestChangedWakesWhoWaits(t *testing.T) {
	b := open(t, Options{Dir: t.TempDir()})
	c := b.Changed()
	select {
	case <-c:
		t.Fatal("woken by nothing")
	default:
	}
	appendN(t, b, 0, 1)
	select {
	case <-c:
	default:
		t.Error("an append wakes nobody")
	}
}
