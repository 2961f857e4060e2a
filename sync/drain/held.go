package drain

import (
	"time"

	"punchclock/queue/punch"
)

// Held is one record that a far side holds, as it says when it is asked. Some
// destinations can be asked, to compare what they hold with the log; delivery
// never depends on it.
type Held struct {
	Employee string     // number, as in the roster
	Key      string     // the punch id that was sent with it; "" where the far side gives none back
	Receipt  string     // the far side's own id, "" for none
	Kind     punch.Kind // invalid where the far side keeps none
	Time     time.Time  // as exact as the far side keeps it: to the second
}
