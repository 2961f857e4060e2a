package text

import (
	"strings"
	"testing"
)

func TestTheWorkListIsInEveryLanguage(t *testing.T) {
	for name, table := range map[string]map[string][3]string{"reasons": reasons, "columns": columns} {
		for code, words := range table {
			for i, w := range words {
				if strings.TrimSpace(w) == "" || strings.Contains(w, "\n") {
					t.Errorf("%s %s in %s: %q", name, code, languages[i].tag, w)
				}
			}
		}
	}
	for _, tag := range Languages() {
		if c := For(tag); c.Reason("period_sealed") == "" || c.Column("kind") == "" {
			t.Errorf("%s: no words", tag)
		}
	}
	if got := For("en").Reason("of_next_year"); got != "of_next_year" {
		t.Errorf("a code without words: %q", got)
	}
	if zh, en := For("zh-TW").Reason("period_sealed"), For("en").Reason("period_sealed"); zh == en || !strings.Contains(zh, "封存") || For("zh-CN").Column("kind") != "类别" {
		t.Errorf("%q, %q", zh, en)
	}
}
