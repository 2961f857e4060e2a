package text

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// officeSources is what may speak to the office.
var officeSources = []string{"../web/*.go", "../web/*.html", "../../cmd/punchclock/*.go"}

// sources is all code and templates that the patterns name, without tests.
func sources(t *testing.T, patterns ...string) string {
	t.Helper()
	var all strings.Builder
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(b)
		}
	}
	return all.String()
}

func TestEverySentenceOfTheOfficeIsThereAndAskedFor(t *testing.T) {
	src := sources(t, officeSources...)
	for name, row := range office {
		for i, words := range row {
			if strings.TrimSpace(words) == "" || !slices.Equal(verbs(words), verbs(row[0])) {
				t.Errorf("%s in %s is %q: nothing, or not the arguments of %q", name, languages[i].tag, words, row[0])
			}
		}
		group := name[:strings.LastIndexByte(name, '.')+1]
		if group == "copy." { // asked for by Copy
			continue
		}
		if !strings.Contains(src, `"`+name+`"`) && (group == "" || !regexp.MustCompile(`"`+regexp.QuoteMeta(group)+`" ?\+`).MatchString(src)) {
			t.Errorf("nobody asks for %s", name)
		}
	}
	asked := regexp.MustCompile(`(?:Office\(|call \$w )"([a-z._]+)"(\s*\+)?`).FindAllStringSubmatch(src, -1)
	for _, m := range asked {
		if _, ok := office[m[1]]; !ok && m[2] == "" {
			t.Errorf("%s is asked for and not there", m[1])
		}
	}
	if len(asked) < 80 || len(office) < 100 {
		t.Errorf("only %d are asked for, %d are there", len(asked), len(office))
	}
	for tag, want := range map[string]string{"zh-TW": "登出", "zh-CN": "退出", "en": "Log out", "th": "登出"} {
		if got := For(tag).Office("logout"); got != want || For(tag).InOffice().Office("logout") != want {
			t.Errorf("%s: %q", tag, got)
		}
	}
	if got := For("en").Office("no.such"); got != "no.such" {
		t.Errorf("%q", got)
	}
	if l := OfficeLanguages(); !slices.Equal(l, []string{"zh-TW", "zh-CN", "en"}) {
		t.Errorf("%v", l)
	}
}
