package transfercard

import (
	"strings"
	"testing"
	"unicode/utf8"

	"punchclock/queue/punch"
)

func TestVendorsExampleReplyIsNotGuessedAt(t *testing.T) {
	// 37 records, one detail of five and one of two: the vendor's own example.
	c, err := parseCounts([]byte(`{"success":30,"ignore":5,"ignoreDetail":[{"idx":1,"errorMsg":"員工編號空白"}],
		"fail":2,"failDetail":[{"idx":2,"errorMsg":"員工編號不存在"}]}`))
	if err != nil || c.success != 30 || c.ignore != 5 || c.fail != 2 {
		t.Fatal(c, err)
	}
	for _, base := range []int64{0, 1} {
		if _, ok := c.attribute(37, base); ok {
			t.Errorf("base %d: two details speak for seven records", base)
		}
	}
	if p := c.proof(37); p != unproven {
		t.Errorf("it proves base %d", p)
	}
}

func TestWhatIsNoReplyOf104(t *testing.T) {
	for _, body := range []string{
		``, ` `, `null`, `0`, `"x"`, `[]`, `{}`, `<html>`, `{"success":null}`, `{"success":"30"}`, `{"success":30.0}`,
		`{"success":3e1}`, `{"success":true}`, `{"success":99999999999999999999}`, `{"success":1`, `{"success":1} trailing`,
		`{"success":1,"fail":"0"}`, `{"success":1,"ignore":[]}`, `{"code":400,"msg":"x"}`,
	} {
		if c, err := parseCounts([]byte(body)); err == nil {
			t.Errorf("%s is read as %+v", body, c)
		}
	}
}

func TestAttributionOnlyWhereEverythingFits(t *testing.T) {
	for _, c := range []struct {
		body string
		n    int
		base int64
		want string // one letter per record: a accept, r refuse; "" where nothing may be believed
		say  int64  // base that the reply proves
	}{
		{`{"success":3}`, 3, 0, "aaa", unproven},
		{`{"success":2,"fail":1,"failDetail":[{"idx":0,"errorMsg":"x"}]}`, 3, 0, "raa", 0},
		{`{"success":2,"fail":1,"failDetail":[{"idx":1,"errorMsg":"x"}]}`, 3, 0, "ara", unproven},
		{`{"success":2,"fail":1,"failDetail":[{"idx":1,"errorMsg":"x"}]}`, 3, 1, "raa", unproven},
		{`{"success":2,"fail":1,"failDetail":[{"idx":3,"errorMsg":"x"}]}`, 3, 1, "aar", 1},
		{`{"success":2,"fail":1,"failDetail":[{"idx":3,"errorMsg":"x"}]}`, 3, 0, "", 1},
		{`{"success":2,"fail":1,"failDetail":[{"idx":0,"errorMsg":"x"}]}`, 3, 1, "", 0},
		{`{"success":1,"fail":1,"ignore":1,"failDetail":[{"idx":0,"errorMsg":"x"}],"ignoreDetail":[{"idx":2,"errorMsg":"重複"}]}`, 3, 0, "raa", 0},
		// Both ends named at once prove nothing, and fit no base.
		{`{"success":1,"fail":2,"failDetail":[{"idx":0,"errorMsg":"x"},{"idx":3,"errorMsg":"x"}]}`, 3, 0, "", unproven},
		// One record named twice.
		{`{"success":1,"fail":2,"failDetail":[{"idx":1,"errorMsg":"x"},{"idx":1,"errorMsg":"x"}]}`, 3, 0, "", unproven},
		{`{"success":1,"fail":1,"ignore":1,"failDetail":[{"idx":1,"errorMsg":"x"}],"ignoreDetail":[{"idx":1,"errorMsg":"y"}]}`, 3, 0, "", unproven},
		// Counts and details that disagree, or do not add up.
		{`{"success":2,"fail":1}`, 3, 0, "", unproven},
		{`{"success":3,"failDetail":[{"idx":1,"errorMsg":"x"}]}`, 3, 0, "", unproven},
		{`{"success":1,"fail":1,"failDetail":[{"idx":1,"errorMsg":"x"}]}`, 3, 0, "", unproven},
		{`{"success":4}`, 3, 0, "", unproven},
		{`{"success":-1,"fail":4}`, 3, 0, "", unproven},
		{`{"success":9223372036854775807,"fail":-9223372036854775807,"ignore":3}`, 3, 0, "", unproven},
		// Details of the wrong form.
		{`{"success":2,"fail":1,"failDetail":[{"idx":"0","errorMsg":"x"}]}`, 3, 0, "", unproven},
		{`{"success":2,"fail":1,"failDetail":[{"errorMsg":"x"}]}`, 3, 0, "", unproven},
		{`{"success":2,"fail":1,"failDetail":"0"}`, 3, 0, "", unproven},
		{`{"success":2,"fail":1,"failDetail":[{"idx":0,"errorMsg":"x"}],"ignoreDetail":"0"}`, 3, 0, "", unproven},
		{`{"success":2,"ignore":1}`, 3, 0, "", unproven},
		{`{"success":2,"fail":1,"failDetail":[{"idx":0,"errorMsg":7}]}`, 3, 0, "raa", 0},
		{`{"success":2,"fail":1,"failDetail":[{"idx":-1,"errorMsg":"x"}]}`, 3, 0, "", unproven},
	} {
		got, err := parseCounts([]byte(c.body))
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		word := ""
		results, _ := got.attribute(c.n, c.base)
		for _, r := range results {
			word += r.fate.String()[:1]
		}
		if word != c.want || got.proof(c.n) != c.say {
			t.Errorf("%s with base %d: %q proving %d, want %q and %d", c.body, c.base, word, got.proof(c.n), c.want, c.say)
		}
	}
}

func TestASingleReplyNeedsNoIdx(t *testing.T) {
	for body, want := range map[string]string{
		`{"success":1}`: "accept",
		`{"success":0,"fail":1,"failDetail":[{"idx":77,"errorMsg":"員工編號不存在"}]}`: "refuse emp_no_unknown",
		`{"success":0,"fail":1,"failDetail":[{"errorMsg":"員工編號不存在"}]}`:          "refuse emp_no_unknown",
		`{"success":0,"ignore":1}`: "refuse ignored_by_104",
		`{"success":0,"fail":1}`:   "refuse rejected_by_104",
		`{"success":0}`:            "unclear",
		`{"success":1,"fail":1}`:   "unclear",
		`{"success":1,"failDetail":[{"idx":1,"errorMsg":"x"}]}`: "unclear",
		`{"success":2}`:                     "unclear",
		`{"success":2,"fail":-1}`:           "unclear",
		`{"success":0,"ignore":0,"fail":0}`: "unclear",
	} {
		c, err := parseCounts([]byte(body))
		if err != nil {
			t.Fatal(body, err)
		}
		r, ok := c.single()
		got := "unclear"
		if ok {
			got = strings.TrimSpace(r.fate.String() + " " + r.reason)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func TestTpReplyFindsOurCompany(t *testing.T) {
	for _, c := range []struct{ body, uno, want string }{
		{`[{"uno":12345678,"code":"200","success":1}]`, "12345678", "200"},
		{`[{"uno":"12345678","code":200,"success":1}]`, "12345678", "200"},
		{`[{"uno":1234567,"code":200,"success":1}]`, "01234567", "200"},
		{`[{"uno":1,"code":"490"},{"uno":12345678,"code":"491"}]`, "12345678", "491"},
		{`[{"uno":87654321,"code":"200","success":1}]`, "12345678", ""},
		{`[{"uno":12345678,"success":1}]`, "12345678", ""},
		{`[]`, "12345678", ""},
		{`{"code":401,"msg":"x"}`, "12345678", ""},
		{`null`, "12345678", ""},
	} {
		r, err := parseTp([]byte(c.body), c.uno)
		if (err == nil) != (c.want != "") || r.code != c.want {
			t.Errorf("%s: code %q, %v; want %q", c.body, r.code, err, c.want)
		}
	}
	if r, err := parseTp([]byte(`[{"uno":12345678,"code":"200","success":"1"}]`), "12345678"); err != nil || r.err == nil {
		t.Errorf("counts of the wrong type are believed: %+v, %v", r, err)
	}
}

// FuzzReply holds that no reply makes the reader panic, that attribution never
// delivers more than 104 says it took, and that kept words are short and valid.
func FuzzReply(f *testing.F) {
	for _, s := range []string{
		`{"success":30,"ignore":5,"ignoreDetail":[{"idx":1,"errorMsg":"員工編號空白"}],"fail":2,"failDetail":[{"idx":2,"errorMsg":"員工編號不存在"}]}`,
		`{"success":2,"ignore":0,"ignoreDetail":null,"fail":1,"failDetail":[{"idx":0,"errorMsg":"打卡資料重複"}]}`,
		`[{"uno":12345678,"code":"200","msg":"正常","success":2,"ignore":0,"ignoreDetail":[],"fail":0,"failDetail":[]}]`,
		`{"code":400,"msg":"no punch data"}`,
		`{"access_token":"at-6f1c0c","token_type":"Bearer","expires_in":3600,"scope":"prohrm"}`,
		`{"error":"invalid_client"}`, `{"success":"30"}`, `<html>`, `{"success":1e0}`, ``,
	} {
		f.Add([]byte(s), 3, int8(0))
	}
	f.Fuzz(func(t *testing.T, body []byte, n int, base int8) {
		if n < 1 || n > 500 {
			n = 3
		}
		check := func(c counts) {
			c.proof(n)
			results, ok := c.attribute(n, int64(base&1))
			if ok && len(results) != n {
				t.Fatalf("%d results for %d records", len(results), n)
			}
			refused := 0
			for _, r := range results {
				if r.fate == punch.Refuse {
					refused++
				}
				fit(t, r)
			}
			if ok && (int64(n-refused) < c.success || c.success < 0 || int64(refused) > c.ignore+c.fail) {
				t.Fatalf("%d of %d refused, 104 took %d", refused, n, c.success)
			}
			if r, ok := c.single(); ok {
				fit(t, r)
				if r.fate == punch.Accept && c.success+c.ignore+c.fail != 1 {
					t.Fatal("delivered without a count")
				}
			}
		}
		if c, err := parseCounts(body); err == nil {
			check(c)
		}
		if r, err := parseTp(body, "12345678"); err == nil && r.err == nil {
			check(r.counts)
		}
		parseProblem(body)
		oauthError(body)
		if tok, err := parseToken(body); err == nil && (tok.value == "" || tok.seconds <= 0) {
			t.Fatalf("token %+v", tok)
		}
	})
}

func fit(t *testing.T, r result) {
	t.Helper()
	if r.fate != punch.Accept && r.fate != punch.Refuse || (r.fate == punch.Refuse) != (r.reason != "") {
		t.Fatalf("result %+v", r)
	}
	if len(r.message) > punch.MaxWords || !utf8.ValidString(r.message) {
		t.Fatalf("message %q", r.message)
	}
}
