// Package token keeps one cached credential per destination fresh.
package token

import (
	"fmt"
)

// Denied is inside an error after which a person must act: nothing that waits
// helps. The worker stops calling, keeps every punch, raises the alarm and probes
// slowly.
type Denied struct {
	State string // auth_failed or misconfigured: the destination's state in status and metrics
	Hint  string // what the technician should do next, in plain words
	Err   error  // what was refused; holds no secret
}

func (d *Denied) Error() string { return fmt.Sprintf("%s: %v (%s)", d.State, d.Err, d.Hint) }

// Unwrap returns what was refused.
func (d *Denied) Unwrap() error { return d.Err }
