package device

import (
	"fmt"
	"testing"
)

func TestALineIsACardOrAFault(t *testing.T) {
	for _, tc := range []struct {
		form  string
		width int
		line  string
		want  string
	}{
		{"hex-line", 0, "06001259E3", "em:06001259E3 06001259E3"},
		{"hex-line", 0, "06001259e3", "em:06001259E3 06001259E3"},
		{"hex-line", 0, "DEADBEEF", "uid:DEADBEEF DEADBEEF"},
		{"hex-line", 0, "04A1B2C3D4E580", "uid:04A1B2C3D4E580 04A1B2C3D4E580"},
		{"hex-line", 0, "06001259E", "length"},
		{"hex-line", 0, "06001259G3", "format"},
		{"hex-line", 0, "", "length"},
		{"dec-line", 0, "0001202659", "dec:0001202659 30303031323032363539"},
		{"dec-line", 0, "018,23011", "dec:018,23011 3031382C3233303131"},
		{"dec-line", 0, "1202659", "length"},
		{"dec-line", 0, ",01823011", "format"},
		{"dec-line", 0, "0,1,8", "format"},
		{"dec-line", 0, "", "length"},
		{"dec-line", 10, "1202659", "dec:0001202659 31323032363539"},
		{"dec-line", 10, "0001202659", "dec:0001202659 30303031323032363539"},
		{"dec-line", 10, "00001202659", "length"},
		{"dec-line", 10, "120", "length"},
		{"dec-line", 10, "18,23011", "format"},
		{"morse", 0, "0001202659", "format"},
	} {
		n, fault := ParseLine(tc.form, tc.width, []byte(tc.line))
		got := fault
		if fault == "" {
			got = fmt.Sprintf("%s:%s %X", n.Medium, n.Value, n.Raw)
		}
		if got != tc.want {
			t.Errorf("%s %d %q: %s, want %s", tc.form, tc.width, tc.line, got, tc.want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("hex-line", 0, []byte("06001259E3"))
	f.Add("dec-line", 10, []byte("1202659"))
	f.Add("dec-line", 0, []byte("018,23011"))
	f.Fuzz(func(t *testing.T, form string, width int, line []byte) {
		width = []int{0, 8, 10, 13}[uint(width)%4]
		n, fault := ParseLine(form, width, line)
		if (fault == "") == (n.Medium == "") || len(n.Raw) > 14 || len(n.Value) > 20 {
			t.Errorf("%s %d %q: %+v %s", form, width, line, n, fault)
		}
	})
}
