package text

import (
	"slices"
	"strings"
	"testing"
)

func TestACopySpeaksEveryLanguage(t *testing.T) {
	names, src := 0, sources(t, officeSources...)
	for name := range office {
		short, ok := strings.CutPrefix(name, "copy.")
		if !ok {
			continue
		}
		names++
		row, ok := copyWords[short]
		if !ok {
			t.Errorf("%s is in the office's languages only", name)
			continue
		}
		for i, words := range row {
			if strings.TrimSpace(words) == "" || !slices.Equal(verbs(words), verbs(office[name][0])) {
				t.Errorf("%s in %s is %q: nothing, or not the arguments of the others", short, copyLanguages[i], words)
			}
			if got := For(copyLanguages[i]).Copy(short); got != words {
				t.Errorf("%s in %s: %q", short, copyLanguages[i], got)
			}
		}
		if dynamic := strings.HasPrefix(short, "state_") || slices.Contains([]string{"stored", "duplicate", "unknown_badge", "blocked_badge"}, short); !dynamic && !strings.Contains(src, `Copy("`+short+`"`) {
			t.Errorf("nobody asks for %s", short)
		}
		if got := For("en").Copy(short); got != office[name][2] {
			t.Errorf("%s in English: %q", short, got)
		}
	}
	if names != len(copyWords) || !slices.Equal(slices.Concat(OfficeLanguages(), copyLanguages), Languages()) {
		t.Errorf("%d and %d sentences, %v and %v", names, len(copyWords), OfficeLanguages(), copyLanguages)
	}
}
