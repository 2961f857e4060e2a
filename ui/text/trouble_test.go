package text

import (
	"regexp"
	"strings"
	"testing"
)

// inSource finds what a pattern captures in the Go files of folders, tests aside.
func inSource(t *testing.T, pattern string, globs ...string) (all []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(sources(t, globs...), -1) {
		all = append(all, m[1])
	}
	return all
}

func TestWhatADestinationAsksForIsSaidInChinese(t *testing.T) {
	hints := inSource(t, `[hH]int(?:\s*[:=]+\s*)"((?:[^"\\]|\\.)*)"`, "../../sync/transfercard/*.go", "../../sync/feishu/*.go", "../../sync/signin/*.go", "../../sync/token/*.go", "../../sync/drain/*.go")
	if len(hints) < 25 {
		t.Errorf("only %d hints were found", len(hints))
	}
	seen := map[string]bool{}
	for _, h := range append(hints,
		`transfercard: post punches: Post "https://apis.104api.com.tw/x": dial tcp: lookup apis.104api.com.tw: no such host`,
		"dial tcp 10.0.0.1:443: connect: connection refused", "connect: network is unreachable", "tls: failed to verify certificate: x509: certificate signed by unknown authority",
		"x509: certificate has expired or is not yet valid: current time 2026-01-01T00:00:00Z is before 2026-02-01T00:00:00Z", "x509: certificate is valid for a.example, not b.example",
		"net/http: TLS handshake timeout", "context deadline exceeded", "transfercard: post punches: HTTP 503", "feishu: import punches: HTTP 429", "unexpected EOF",
		"104: read the secret: open /run/credentials/punchclock.service/104-secret: no such file or directory") {
		zh, cn := For("zh-TW").Trouble(h), For("zh-CN").Trouble(h)
		if zh == "" || cn == "" {
			t.Errorf("no words for %q", h)
		}
		seen[zh] = true
	}
	if len(seen) < 30 {
		t.Errorf("%d different answers to all of that", len(seen))
	}
	if w := For("en").Trouble("no such host"); w != "" {
		t.Errorf("English is said twice: %q", w)
	}
	if w := For("zh-TW").Trouble("something of next year"); w != "" {
		t.Errorf("what is not known is %q", w)
	}
	for i, a := range troubles {
		for _, b := range troubles[:i] {
			if strings.Contains(a.in, b.in) {
				t.Errorf("%q is never found behind %q", a.in, b.in)
			}
		}
	}
}

func TestWhatDoctorLooksAtIsNamedInChinese(t *testing.T) {
	src := "../../cmd/punchclock/doctor*.go"
	titles := inSource(t, `title: +"([^"]+)"`, src)
	groups := inSource(t, `"(?:program|daemon|config|state|gpio|page)": "([^"]+)"`, src)
	for _, id := range inSource(t, `id: "([a-z]+)\.`, src) {
		groups = append(groups, id)
	}
	if len(titles) < 35 || len(groups) < 30 {
		t.Errorf("only %d checks and %d groups were found", len(titles), len(groups))
	}
	used := map[string]bool{}
	for _, title := range titles {
		used[title] = true
		zh, remedy := For("zh-TW").Check(title)
		if row := checks[title]; zh == "" || remedy == "" || row[1] == "" || row[3] == "" {
			t.Errorf("%q is %q, and if it is not well: %q", title, zh, remedy)
		}
		if en, remedy := For("en").Check(title); en != title || remedy != "" {
			t.Errorf("in English %q is %q, %q", title, en, remedy)
		}
	}
	for _, g := range groups {
		used[g] = true
	}
	for name := range checks {
		if !used[name] {
			t.Errorf("doctor does not look at %q", name)
		}
	}
	for name, want := range map[string]string{"destination 104": "目的地 104", "reader front": "讀卡機 front", "of next year": "of next year"} {
		if got, _ := For("th").Check(name); got != want {
			t.Errorf("%q is %q", name, got)
		}
	}
}
