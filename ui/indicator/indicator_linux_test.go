package indicator

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestAMissingPinIsAnErrorThatSaysWhatToDo(t *testing.T) {
	p, err := Pin("GPIO-no-such-line")
	if err == nil || p != nil {
		t.Fatalf("Pin = %v, %v", p, err)
	}
	want := "no such line"
	if chips, _ := filepath.Glob("/dev/gpiochip*"); len(chips) == 0 {
		want = "no GPIO"
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want something with %q", err, want)
	}
}
