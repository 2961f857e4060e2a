package punch

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
)

func TestKindsAreWordsOnTheWire(t *testing.T) {
	for k, want := range map[Kind][2]string{In: {"in", "上班"}, Out: {"out", "下班"}, GoOut: {"go-out", "外出"}, Return: {"return", "外歸"}} {
		b, err := json.Marshal(k)
		if err != nil || string(b) != `"`+want[0]+`"` || k.Chinese() != want[1] {
			t.Errorf("%d: %s %v %s", k, b, err, k.Chinese())
		}
		var back Kind
		if err := json.Unmarshal(b, &back); err != nil || back != k {
			t.Errorf("%s: %v %v", b, back, err)
		}
	}
	if _, err := json.Marshal(Kind(0)); err == nil {
		t.Error("the zero kind went out")
	}
	var k Kind
	if err := json.Unmarshal([]byte(`"上班"`), &k); err == nil || !strings.Contains(err.Error(), "go-out") || k != 0 {
		t.Errorf("%v %v", k, err)
	}
	for _, o := range []Outcome{Stored, UnknownBadge, Duplicate, Misread, NotStored} {
		if p, err := ParseOutcome(o.String()); err != nil || p != o {
			t.Errorf("%v: %v %v", o, p, err)
		}
	}
	for _, c := range []ClockState{Unset, Holdover, Synced} {
		var back ClockState
		if err := back.UnmarshalText([]byte(c.String())); err != nil || back != c {
			t.Errorf("%v: %v %v", c, back, err)
		}
	}
}

func TestBadgeIsOneTextForOneCard(t *testing.T) {
	for in, want := range map[string]string{
		"em:0a1b2c3d4e": "em:0A1B2C3D4E", " EM:0A1B2C3D4E ": "em:0A1B2C3D4E", "w26:123-45678": "w26:123-45678",
		"uid:04a1b2c3d4e5f6": "uid:04A1B2C3D4E5F6", "uid:deadbeef": "uid:DEADBEEF", "key:000123": "key:000123", "dec:0001202659": "dec:0001202659",
		"em:0A1B2C3D": "", "em:0A1B2C3D4G": "", "uid:04A1B2": "", "0A1B2C3D4E": "", ":1": "", "em:": "", "w26:1;2": "", "w26:\x1b[2J": "",
		"averylongmedium:1": "", "w26:" + strings.Repeat("9", 49): "",
	} {
		b, err := ParseBadge(in)
		if string(b) != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, b, err)
		}
	}
}

func TestNoLogHoldsABadgeOrAName(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	e := Employee{Number: "000123", Name: "王小明", Badges: []Badge{"em:7766554D4E"}}
	log.Info("x", "badge", e.Badges[0], "employee", e)
	_, err := ParseBadge("em:7766554D4E5566")
	log.Info("x", "err", err)
	for _, w := range []string{"7766554D4E", "王小明"} {
		if strings.Contains(out.String(), w) {
			t.Errorf("the log holds %s: %s", w, out.String())
		}
	}
	if !strings.Contains(out.String(), "em:…D4E") || !strings.Contains(out.String(), "000123") {
		t.Errorf("the log says too little: %s", out.String())
	}
}

func TestIDLeadsBackToDeviceAndNumber(t *testing.T) {
	id := NewID("tpe-1f-lobby", 42)
	if id != "tpe-1f-lobby-000000000042" {
		t.Errorf("id %s", id)
	}
	if d, n, err := id.Seq(); d != "tpe-1f-lobby" || n != 42 || err != nil {
		t.Errorf("%s %d %v", d, n, err)
	}
	if d, n, err := NewID("x", 1_000_000_000_000).Seq(); d != "x" || n != 1_000_000_000_000 || err != nil {
		t.Errorf("the trillionth: %s %d %v", d, n, err)
	}
	for _, bad := range []ID{"", "x", "x-1", "-000000000001", "x-00000000000a", "x-+00000000001", "x-99999999999999999999999"} {
		if _, _, err := bad.Seq(); err == nil {
			t.Errorf("%q is taken for an id", bad)
		}
	}
}

func FuzzParseBadge(f *testing.F) {
	for _, s := range []string{"em:0A1B2C3D4E", "uid:04A1B2C3D4E5F6", "w26:1-2", "::", "key:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := ParseBadge(s)
		if err != nil {
			return
		}
		if again, err := ParseBadge(string(b)); err != nil || again != b || len(b) > MaxBadge || strings.ContainsAny(string(b), "\n\r\x1b\"'") {
			t.Errorf("%q became %q, then %q, %v", s, b, again, err)
		}
	})
}

func TestWordsOfTheFarSideAreFitToKeep(t *testing.T) {
	for in, want := range map[string]string{" 員工編號不存在\r\n": "員工編號不存在", "a\x1b[2Jb\nc": "a [2Jb c", "a\xffb": "a\uFFFDb", "": ""} {
		if got := Words(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := Words(strings.Repeat("員", 100)); len(got) != 255 || got != strings.Repeat("員", 85) {
		t.Errorf("%d bytes", len(got))
	}
}
