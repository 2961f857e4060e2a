package text

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// keys reads the keys from the source, so that none can be forgotten here.
func keys(t *testing.T) []Key {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "text.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []Key
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == "Key" {
				s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, Key(s))
			}
		}
		return true
	})
	if len(all) < 50 {
		t.Fatalf("only %d keys in text.go", len(all))
	}
	return all
}

// verbs lists what a sentence wants to be given, whatever the order.
func verbs(s string) []string {
	v := regexp.MustCompile(`%(\[\d+\])?[a-z%]`).FindAllString(s, -1)
	slices.Sort(v)
	return v
}

func TestEveryLanguageSaysEverythingAndNothingElse(t *testing.T) {
	all := keys(t)
	for _, l := range languages {
		for _, k := range all {
			s, ok := l.words[k]
			if !ok || strings.TrimSpace(s) == "" {
				t.Errorf("%s has nothing to say for %s", l.tag, k)
			}
			if !slices.Equal(verbs(s), verbs(zhTW[k])) {
				t.Errorf("%s: %s is %q, and %q in zh-TW: not the same arguments", l.tag, k, s, zhTW[k])
			}
		}
		for k := range l.words {
			if !slices.Contains(all, k) {
				t.Errorf("%s has %s, which nobody asks for", l.tag, k)
			}
		}
	}
}

func TestEveryWordOfTheWireHasASentence(t *testing.T) {
	for _, tag := range Languages() {
		c := For(tag)
		for _, kind := range []string{"in", "out", "go-out", "return"} {
			if c.Kind(kind) == "" || c.Greeting(kind) == "" {
				t.Errorf("%s: nothing for %s", tag, kind)
			}
		}
		seen := map[string]bool{}
		for _, outcome := range []string{"stored", "duplicate", "unknown_badge", "blocked_badge", "misread", "not_stored", "enrolment"} {
			s := c.Outcome(outcome, "synced")
			if s == "" || seen[s] {
				t.Errorf("%s: %s is %q", tag, outcome, s)
			}
			seen[s] = true
		}
		if s := c.Outcome("stored", "unset"); s == "" || seen[s] {
			t.Errorf("%s: stored with an uncertain time is %q", tag, s)
		}
		for _, why := range []string{"chosen", "schedule", "person"} {
			if c.Why(why) == "" {
				t.Errorf("%s: nothing for %s", tag, why)
			}
		}
		for _, word := range []string{c.Clock("synced"), c.Clock("holdover"), c.Clock("unset"), c.Destination("ok"), c.Destination("retrying"),
			c.Destination("auth_failed"), c.Destination("misconfigured"), c.Reader("ok"), c.Reader("down")} {
			if word == "" {
				t.Errorf("%s: a state has no word", tag)
			}
		}
		if c.Kind("") != "" || c.Outcome("lunch", "") != "" {
			t.Errorf("%s: has a word for nothing", tag)
		}
	}
}

func TestARefusedCardIsRefusedInItsOwnWords(t *testing.T) {
	for _, tag := range Languages() {
		c := For(tag)
		seen := map[string]bool{c.Say(Misread): true}
		for _, reason := range []string{"random", "two", "learned", "pin", "tries"} {
			if s := c.Answer("misread", "", reason); seen[s] {
				t.Errorf("%s: %s is %q", tag, reason, s)
			} else {
				seen[s] = true
			}
		}
		for _, reason := range []string{"", "checksum"} {
			if s := c.Answer("misread", "", reason); s != c.Say(Misread) {
				t.Errorf("%s: %q is %q", tag, reason, s)
			}
		}
	}
}

func TestNotStoredNeverReadsLikeASuccess(t *testing.T) {
	for tag, words := range map[string][]string{
		"zh-TW": {"未儲存", "再刷"}, "zh-CN": {"未保存", "再刷"}, "en": {"Not saved", "again"},
		"vi": {"Chưa lưu", "lại"}, "id": {"Belum tersimpan", "lagi"}, "th": {"ยังไม่ได้บันทึก", "อีกครั้ง"}, "fil": {"Hindi na-save", "muli"},
	} {
		for _, w := range words {
			if s := For(tag).Outcome("not_stored", "synced"); !strings.Contains(s, w) {
				t.Errorf("%s: %q does not say %q", tag, s, w)
			}
		}
	}
}

func TestNearestLanguageIsSpoken(t *testing.T) {
	for tag, want := range map[string]string{
		"zh-TW": "zh-TW", "zh-CN": "zh-CN", "en": "en", "en-GB": "en", "EN_us": "en",
		"zh": "zh-CN", "zh-Hans": "zh-CN", "zh-Hans-SG": "zh-CN", "zh-Hant": "zh-TW", "zh-HK": "zh-TW",
		"": "zh-TW", "xx": "zh-TW", "xx-YY": "zh-TW", "vi-VN": "vi", "id_ID": "id", "th": "th", "fil-PH": "fil",
	} {
		if got := For(tag).Language(); got != want {
			t.Errorf("%q speaks %s, want %s", tag, got, want)
		}
	}
	if !Known("en-GB") || Known("xx") || Known("") {
		t.Error("known languages are wrong")
	}
	var zero Catalog
	if zero.Kind("in") != "上班" {
		t.Error("the zero catalog is not zh-TW")
	}
}

func TestSentencesReadAsAPersonWouldWriteThem(t *testing.T) {
	tw, en := For("zh-TW"), For("en")
	day := time.Date(2026, 11, 21, 23, 0, 0, 0, time.UTC)
	for _, c := range []struct{ got, want string }{
		{tw.Pending(3, 2*time.Minute), "3 筆待上傳，最舊 2 分鐘"},
		{tw.Pending(0, 0), "全部已上傳"},
		{en.Pending(1, 90*time.Second), "1 punch to upload, waiting 90 s"},
		{en.Pending(12, 47*time.Hour), "12 punches to upload, oldest waiting 47 h"},
		{en.Pending(2, 48*time.Hour), "2 punches to upload, oldest waiting 2 days"},
		{en.Duration(-time.Second), "0 s"},
		{tw.Parked(2), "2 筆需人工處理"},
		{tw.Parked(0), ""},
		{en.Parked(1), "1 punch needs attention"},
		{tw.Date(day), "2026年11月21日 星期六"},
		{en.Date(day), "Saturday, 21 November 2026"},
		{tw.Say(ReaderDown, "front"), "讀卡機 front 未連線"},
		{tw.Say("no.such.key"), "no.such.key"},
		{tw.Outcome("unknown_badge", "synced"), "卡片未登錄，已記錄，請洽人資"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// What is said to one person is all there in their own language, and tells the four
// kinds and the fates of a punch apart.
func TestPersonIsSpokenToInTheirOwnLanguage(t *testing.T) {
	for _, tag := range Languages() {
		own := For(tag).Personal()
		for _, k := range []Key{Stored, Duplicate, NotStored, Corrected, GreetOut, PINPassword, PINWait, MineTitle, FixAsk, Close, LanguageName} {
			if own[k] == "" || own[k] != For(tag).Say(k) {
				t.Errorf("%s: %s is %q", tag, k, own[k])
			}
		}
		for _, group := range [][]Key{{KindIn, KindOut, KindGoOut, KindReturn}, {DeliveryPending, DeliveryDelivered, DeliveryParked, DeliverySkipped}} {
			seen := map[string]bool{}
			for _, k := range group {
				if seen[own[k]] {
					t.Errorf("%s: %q means two things", tag, own[k])
				}
				seen[own[k]] = true
			}
		}
		if own[IdleTap] != "" || own[StatusTitle] != "" {
			t.Errorf("%s: more than what is said to a person", tag)
		}
	}
}

func TestLanguageStillIncompleteFallsBackToTheStandardOne(t *testing.T) {
	languages = append(languages, struct {
		tag   string
		words map[Key]string
	}{"xx", map[Key]string{KindIn: "Hom"}})
	defer func() { languages = languages[:len(languages)-1] }()
	c := For("xx")
	if c.Kind("in") != "Hom" || c.Kind("out") != "下班" {
		t.Errorf("%q %q", c.Kind("in"), c.Kind("out"))
	}
	if w := c.Words(); w[KindIn] != "Hom" || w[KindOut] != "下班" || len(w) != len(zhTW) {
		t.Errorf("%d words", len(w))
	}
	c.Words()[KindIn] = "x"
	if For("zh-TW").Kind("in") != "上班" {
		t.Error("the caller's map is the catalog's")
	}
}
