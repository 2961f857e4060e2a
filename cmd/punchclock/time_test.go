package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"punchclock/device"
	"punchclock/device/clock"
	"punchclock/queue"
	"punchclock/queue/punch"
	"punchclock/queue/roster"
	"punchclock/sync/sandbox"
)

// Each case is a story told to the real clock, conversation, outbox, engine and
// 104 client, on a machine whose clocks the story sets, in virtual time. It begins
// on 2026-11-21 at 08:00 in Taipei. The words of a story, one a line or between
// semicolons:
//
//	at T                 sleep until the true time is T
//	wait D               sleep; D as 90s, 3h, 50d
//	boot W [chip=NAME]   power on, the program starts; the wall clock says W: right, +3h, -10y or a time
//	off D                power off for a while
//	stop, start          the program alone, in the same boot
//	step D               somebody moves the wall clock
//	ntp [D]              a time server sets the clock, right, or wrong by D, and keeps it from now on
//	deaf                 the time server is lost, and the kernel gave up
//	tap P, choose K      A to D are in the roster, X is not until it is hired
//	hire X               the roster learns X
//	cut, mend            the network; lose: the next answer about punches gets lost
//	settle N T [boot] [force], refused N T [force]   a person decides, and may or may not
//	retry                queue retry
//
// What must come of it, one line a punch in order of sequence: who, kind, outcome,
// the clock's state with its bound in holdover, what the wall clock said, and where
// it is: "-> time sent", "held", "not sent", "parked why".
type clockCase struct {
	name   string
	config string // more lines of [device], or other tables
	story  string
	want   string
	warns  int  // warnings about the far side's clock
	lies   bool // what sets the clock is itself wrong: nobody here can know
	refuse string
}

var clockCases = []clockCase{
	// The time server comes late, or never.
	{name: "a clock that is right", story: "boot right; ntp; wait 10s; tap A",
		want: "A in stored synced 2026-11-21 08:00:10 -> 2026-11-21 08:00:10"},
	{name: "1970 at boot, the server answers after ten minutes", story: "boot 1970-01-01T08:00:00; wait 10s; tap A; wait 10m; ntp",
		want: "A in stored unset 1970-01-01 08:00:10 -> 2026-11-21 08:00:10"},
	{name: "1970 at boot, no server yet", story: "boot 1970-01-01T08:00:00; wait 10s; tap A; wait 9h",
		want: "A in stored unset 1970-01-01 08:00:10 held"},
	{name: "before 1970", story: "boot 1969-12-31T12:00:00; wait 10s; tap A; wait 10m; ntp",
		want: "A in stored unset 1969-12-31 12:00:10 -> 2026-11-21 08:00:10"},
	{name: "the time of the last shutdown, three hours ago", story: "boot -3h; wait 10s; tap A; wait 1m; ntp",
		want: "A in stored unset 2026-11-21 05:00:10 -> 2026-11-21 08:00:10"},
	{name: "three hours ahead", story: "boot +3h; wait 10s; tap A; wait 1m; ntp",
		want: "A in stored unset 2026-11-21 11:00:10 -> 2026-11-21 08:00:10"},
	{name: "ten years behind", story: "boot -10y; wait 10s; tap A; wait 1m; ntp",
		want: "A in stored unset 2016-11-21 08:00:10 -> 2026-11-21 08:00:10"},
	{name: "ten years ahead", story: "boot +10y; wait 10s; tap A; wait 1m; ntp",
		want: "A in stored unset 2036-11-21 08:00:10 -> 2026-11-21 08:00:10"},
	{name: "right by chance, but nobody says so", story: "boot right; wait 10s; tap A; wait 1m",
		want: "A in stored unset 2026-11-21 08:00:10 held"},
	{name: "the server finds it right: no step is seen", story: "boot right; wait 10s; tap A; wait 1m; ntp; wait 40s",
		want: "A in stored unset 2026-11-21 08:00:10 -> 2026-11-21 08:00:10"},
	{name: "those behind a held punch wait for it", story: "boot -3h; wait 10s; tap A; wait 1m; tap B; wait 1m; tap A; wait 1m; ntp; wait 1m; tap B",
		want: `A in stored unset 2026-11-21 05:00:10 -> 2026-11-21 08:00:10
			B in stored unset 2026-11-21 05:01:10 -> 2026-11-21 08:01:10
			A out stored unset 2026-11-21 05:02:10 -> 2026-11-21 08:02:10
			B out stored synced 2026-11-21 08:04:10 -> 2026-11-21 08:04:10`},
	{name: "held for longer than 32 bits of milliseconds", story: "boot 1970-01-01T08:00:00; wait 50d; tap A; wait 1m; ntp",
		want: "A in stored unset 1970-02-20 08:00:00 -> 2027-01-10 08:00:00"},

	// Steps between taps.
	{name: "backwards between two taps", story: "boot +3h; wait 10s; tap A; wait 5m; ntp; tap A",
		want: `A in stored unset 2026-11-21 11:00:10 -> 2026-11-21 08:00:10
			A out stored synced 2026-11-21 08:05:10 -> 2026-11-21 08:05:10`},
	{name: "forwards between two taps", story: "boot -10y; wait 10s; tap A; wait 5m; ntp; tap A",
		want: `A in stored unset 2016-11-21 08:00:10 -> 2026-11-21 08:00:10
			A out stored synced 2026-11-21 08:05:10 -> 2026-11-21 08:05:10`},
	{name: "a second back between two people: order is by sequence", lies: true,
		story: "boot right; ntp 2s; wait 10s; tap A; ntp; wait 1s; tap B",
		want: `A in stored synced 2026-11-21 08:00:12 -> 2026-11-21 08:00:12
			B in stored synced 2026-11-21 08:00:11 -> 2026-11-21 08:00:11`},
	{name: "a slightly wrong server first: what was sent stays", lies: true,
		story: "boot 1970-01-01T08:00:00; wait 10s; tap A; ntp 2s; wait 1m; ntp; wait 1m; tap A",
		want: `A in stored unset 1970-01-01 08:00:10 -> 2026-11-21 08:00:12
			A out stored synced 2026-11-21 08:02:10 -> 2026-11-21 08:02:10`},

	// The server is lost.
	{name: "the bound grows in holdover", story: "boot right; ntp; wait 1m; deaf; wait 8h; tap A",
		want: "A in stored holdover±14.4s 2026-11-21 16:01:00 -> 2026-11-21 16:01:00"},
	{name: "a free clock set by hand a little", story: "boot right; ntp; wait 1m; deaf; step 30s; wait 1m; tap A",
		want: "A in stored holdover±30.1s 2026-11-21 08:02:30 -> 2026-11-21 08:02:30"},
	{name: "a free clock moved by three hours is not believed", warns: 2, story: "boot right; ntp; wait 1m; deaf; step 3h; wait 1m; tap A; step -6h; wait 2m; tap A",
		want: `A in stored unset 2026-11-21 11:02:00 -> 2026-11-21 08:02:00
			A out stored unset 2026-11-21 05:04:00 -> 2026-11-21 08:04:00`},
	{name: "a free clock moved by ten years and back", warns: 1, story: "boot right; ntp; wait 1m; deaf; step 3653d; wait 1m; tap A; step -3653d; wait 2m; tap A",
		want: `A in stored unset 2036-11-21 08:02:00 -> 2026-11-21 08:02:00
			A out stored holdover±0.1s 2026-11-21 08:04:00 -> 2026-11-21 08:04:00`},
	{name: "holdover outlives a restart", story: "boot right; ntp; wait 1m; deaf; wait 1m; stop; wait 1h; start; tap A",
		want: "A in stored holdover±1.9s 2026-11-21 09:02:00 -> 2026-11-21 09:02:00"},
	{name: "holdover does not outlive a boot", story: "boot right; ntp; wait 1m; deaf; wait 1m; off 1h; boot -1h; tap A",
		want: "A in stored unset 2026-11-21 08:02:00 held"},

	// Restarts of the program within a boot.
	{name: "restart before the sync", story: "boot -3h; wait 10s; tap A; stop; wait 1m; start; tap B; ntp",
		want: `A in stored unset 2026-11-21 05:00:10 -> 2026-11-21 08:00:10
			B in stored unset 2026-11-21 05:01:10 -> 2026-11-21 08:01:10`},
	{name: "the sync comes while the program is down", story: "boot -3h; wait 10s; tap A; stop; wait 1m; ntp; wait 1m; start",
		want: "A in stored unset 2026-11-21 05:00:10 -> 2026-11-21 08:00:10"},
	{name: "restart after the sync, before anything was sent", story: "boot -3h; wait 10s; tap A; cut; ntp; wait 1m; stop; start; mend; wait 10m",
		want: "A in stored unset 2026-11-21 05:00:10 -> 2026-11-21 08:00:10"},

	// Reboots.
	{name: "synced, not sent, and sent in a later boot", warns: 1, story: "boot -3h; wait 10s; tap A; cut; ntp; wait 1m; off 1h; boot 1970-01-01T08:00:00; mend; wait 10m",
		want: "A in stored unset 2026-11-21 05:00:10 -> 2026-11-21 08:00:10"},
	{name: "the server answers only after a reboot", story: "boot -3h; wait 10s; tap A; wait 1h; off 1m; boot -3h; wait 10s; ntp",
		want: "A in stored unset 2026-11-21 05:00:10 parked time_uncertain: before this boot (2026-11-21 09:01:10)"},
	{name: "a boot between two certain punches", story: "boot right; ntp; wait 1m; tap A; off 1h; boot 1970-01-01T08:00:00; wait 1m; tap B; off 1h; boot right; ntp; wait 1m; tap C",
		want: `A in stored synced 2026-11-21 08:01:00 -> 2026-11-21 08:01:00
			B in stored unset 1970-01-01 08:01:00 parked time_uncertain: after punch #1 (2026-11-21 08:01:00), before the boot of punch #3 (2026-11-21 10:02:00)
			C in stored synced 2026-11-21 10:03:00 -> 2026-11-21 10:03:00`},
	{name: "two boots without the time, then one with it", story: "boot -3h; wait 1m; tap A; off 1h; boot -3h; wait 1m; tap B; off 1h; boot right; ntp; wait 1m; tap C",
		want: `A in stored unset 2026-11-21 05:01:00 parked time_uncertain: before the boot of punch #3 (2026-11-21 10:02:00)
			B in stored unset 2026-11-21 06:02:00 parked time_uncertain: before the boot of punch #3 (2026-11-21 10:02:00)
			C in stored synced 2026-11-21 10:03:00 -> 2026-11-21 10:03:00`},
	{name: "two boots without the time, the second gets it", story: "boot -3h; wait 1m; tap A; off 1h; boot -3h; wait 1m; tap B; wait 1m; ntp",
		want: `A in stored unset 2026-11-21 05:01:00 parked time_uncertain: before the boot of punch #2 (2026-11-21 09:01:00)
			B in stored unset 2026-11-21 06:02:00 -> 2026-11-21 09:02:00`},
	{name: "no certain punch anywhere", story: "boot -3h; wait 1m; tap A; off 1h; boot -3h; wait 1m",
		want: "A in stored unset 2026-11-21 05:01:00 parked time_uncertain: no punch around it has a time that is certain"},
	{name: "cut off right after the sync: the boot's next punch tells", warns: 1, story: "boot right; wait 10s; tap A; wait 1m; ntp; tap B; off 1h; boot -3h; wait 1m",
		want: `A in stored unset 2026-11-21 08:00:10 -> 2026-11-21 08:00:10
			B in stored synced 2026-11-21 08:01:10 -> 2026-11-21 08:01:10`},
	{name: "putting it back decides nothing", story: "boot -3h; wait 1m; tap A; off 1h; boot right; ntp; wait 1m; retry",
		want: "A in stored unset 2026-11-21 05:01:00 parked time_uncertain: before this boot (2026-11-21 09:01:00)"},

	// A person decides.
	{name: "a person decides", story: "boot -3h; wait 1m; tap A; off 1h; boot right; ntp; wait 1m; settle 1 2026-11-21T08:05; wait 1m",
		want: "A in stored unset 2026-11-21 05:01:00 -> 2026-11-21 08:05:00 by hr"},
	{name: "a person errs, and insists", lies: true,
		story: "boot -3h; wait 1m; tap A; off 1h; boot right; ntp; wait 1m; refused 1 2026-11-21T10:00; settle 1 2026-11-21T10:00 force; refused 1 2026-11-21T08:00 force; wait 1m",
		want:  "A in stored unset 2026-11-21 05:01:00 -> 2026-11-21 10:00:00 by hr"},
	{name: "one decision for the whole boot", story: "boot -3h; wait 1m; tap A; wait 1m; tap B; wait 10m; tap A; off 1h; boot right; ntp; wait 1m; settle 1 2026-11-21T08:01 boot; wait 1m",
		want: `A in stored unset 2026-11-21 05:01:00 -> 2026-11-21 08:01:00 by hr
			B in stored unset 2026-11-21 05:02:00 -> 2026-11-21 08:02:00 by hr
			A out stored unset 2026-11-21 05:12:00 -> 2026-11-21 08:12:00 by hr`},
	{name: "a decision, a lost answer, a reboot: resent as it was", story: "boot -3h; wait 1m; tap A; off 1h; boot right; ntp; wait 1m; lose; settle 1 2026-11-21T08:05; off 1h; boot +3h; ntp; wait 10m",
		want: "A in stored unset 2026-11-21 05:01:00 -> 2026-11-21 08:05:00 by hr, twice"},
	{name: "what is held is nobody's to decide", story: "boot -3h; wait 1m; tap A; refused 1 2026-11-21T08:01 force; ntp; wait 1m; refused 1 2026-11-21T08:00 force",
		want: "A in stored unset 2026-11-21 05:01:00 -> 2026-11-21 08:01:00"},
	{name: "a correction, a lost answer, a step: resent as it was", warns: 1, story: "boot 1970-01-01T08:00:00; wait 10s; tap A; lose; ntp; deaf; step 3h; wait 10m",
		want: "A in stored unset 1970-01-01 08:00:10 -> 2026-11-21 08:00:10, twice"},

	// Battery clocks.
	{name: "a battery clock, and no server", story: "boot right chip=ds3231; wait 10s; tap A",
		want: "A in stored holdover±111.4s 2026-11-21 08:00:10 -> 2026-11-21 08:00:10"},
	{name: "an empty battery", story: "boot 2000-01-01T08:00:00 chip=ds3231; wait 10s; tap A; wait 1m; ntp",
		want: "A in stored unset 2000-01-01 08:00:10 -> 2026-11-21 08:00:10"},
	{name: "a battery clock that was reset since the last sync", story: "boot right; ntp; wait 1m; off 1h; boot -3h chip=rtc-pcf8563; wait 10s; tap A; wait 1m; ntp",
		want: "A in stored unset 2026-11-21 06:01:10 -> 2026-11-21 09:01:10"},
	{name: "a battery clock ten years ahead", story: "boot right; ntp; wait 1m; off 1h; boot +10y chip=ds3231; wait 10s; tap A; wait 1m; ntp",
		want: "A in stored unset 2036-11-21 09:01:10 -> 2026-11-21 09:01:10"},
	{name: "a battery clock in local time, where only the far side can tell", lies: true, warns: 1, story: "boot +8h chip=ds3231; wait 10s; tap A; wait 2m; tap A",
		want: `A in stored holdover±111.4s 2026-11-21 16:00:10 -> 2026-11-21 16:00:10
			A out stored holdover±111.4s 2026-11-21 16:02:10 -> 2026-11-21 16:02:10`},

	// Somebody answers for the clock.
	{name: "trust the machine", config: "[clock]\ntrust = \"system\"", story: "boot right; wait 10s; tap A",
		want: "A in stored synced 2026-11-21 08:00:10 -> 2026-11-21 08:00:10"},
	{name: "trust a machine that is wrong, then set right, then wrong again", config: "[clock]\ntrust = \"system\"", lies: true, warns: 2,
		story: "boot -3h; wait 10s; tap A; wait 1m; tap B; step 3h; wait 1m; tap A; step 3h; wait 1m; tap B",
		want: `A in stored synced 2026-11-21 05:00:10 -> 2026-11-21 05:00:10
			B in stored synced 2026-11-21 05:01:10 -> 2026-11-21 05:01:10
			A out stored synced 2026-11-21 08:02:10 -> 2026-11-21 08:02:10
			B out stored synced 2026-11-21 11:03:10 -> 2026-11-21 11:03:10`},

	// The conversation.
	{name: "a step while a kind is chosen", story: "boot -3h; choose go-out; wait 5s; ntp; tap A",
		want: "A go-out stored synced 2026-11-21 08:00:05 -> 2026-11-21 08:00:05"},
	{name: "a choice ends by the monotonic clock", story: "boot +3h; choose go-out; wait 5s; ntp; wait 6s; tap A",
		want: "A in stored synced 2026-11-21 08:00:11 -> 2026-11-21 08:00:11"},
	{name: "a second tap across a step forwards", story: "boot -3h; wait 10s; tap A; ntp; wait 59s; tap A",
		want: `A in stored unset 2026-11-21 05:00:10 -> 2026-11-21 08:00:10
			A in duplicate synced 2026-11-21 08:01:09 not sent`},
	{name: "a new tap across a step to the same minute", story: "boot +1m; wait 10s; tap A; wait 61s; ntp; tap A",
		want: `A in stored unset 2026-11-21 08:01:10 -> 2026-11-21 08:00:10
			A out stored synced 2026-11-21 08:01:11 -> 2026-11-21 08:01:11`},
	{name: "a second tap across a restart", story: "boot -3h; wait 10s; tap A; stop; start; wait 30s; tap A; ntp",
		want: `A in stored unset 2026-11-21 05:00:10 -> 2026-11-21 08:00:10
			A in duplicate unset 2026-11-21 05:00:40 not sent`},
	{name: "the window does not outlive a boot", story: "boot -3h; wait 10s; tap A; off 5s; boot -3h; wait 10s; tap A; ntp",
		want: `A in stored unset 2026-11-21 05:00:10 parked time_uncertain: before the boot of punch #2 (2026-11-21 08:00:15)
			A out stored unset 2026-11-21 05:00:25 -> 2026-11-21 08:00:25`},
	{name: "no schedule while nobody knows the time of day", config: "[[schedule]]\nfrom = \"05:00\"\nto = \"11:00\"\nkind = \"return\"",
		story: "boot -3h; wait 10s; tap A; wait 2m; ntp; wait 1s; tap B",
		want: `A in stored unset 2026-11-21 05:00:10 -> 2026-11-21 08:00:10
			B return stored synced 2026-11-21 08:02:11 -> 2026-11-21 08:02:11`},
	{name: "an unknown badge before the clock was right", story: "boot -3h; wait 10s; tap X; wait 1m; ntp; wait 1h; hire X",
		want: "X in unknown_badge unset 2026-11-21 05:00:10 -> 2026-11-21 08:00:10"},
	{name: "an unknown badge of a boot that never learned the time", story: "boot -3h; wait 1m; tap X; off 1h; boot right; ntp; wait 1m; hire X",
		want: "X in unknown_badge unset 2026-11-21 05:01:00 parked time_uncertain: before this boot (2026-11-21 09:01:00)"},

	// Calendars.
	{name: "23:59:59, and the second tap on the next day", story: "at 2026-11-21T23:59:50; boot right; ntp; wait 9s; tap A; wait 30s; tap A; wait 2m; tap A",
		want: `A in stored synced 2026-11-21 23:59:59 -> 2026-11-21 23:59:59
			A in duplicate synced 2026-11-22 00:00:29 not sent
			A in stored synced 2026-11-22 00:02:29 -> 2026-11-22 00:02:29`},
	{name: "23:59:59 by a clock that is a second ahead", story: "at 2026-11-21T23:59:49; boot +1s; wait 9s; tap A; ntp; wait 2m; tap A",
		want: `A in stored unset 2026-11-21 23:59:59 -> 2026-11-21 23:59:58
			A in stored synced 2026-11-22 00:01:58 -> 2026-11-22 00:01:58`},
	{name: "29 February", story: "at 2028-02-29T23:59:00; boot 2027-02-28T23:59:00; wait 59s; tap A; ntp; wait 2m; tap A",
		want: `A in stored unset 2027-02-28 23:59:59 -> 2028-02-29 23:59:59
			A in stored synced 2028-03-01 00:01:59 -> 2028-03-01 00:01:59`},
	{name: "a clock that says 29 February in a year without", story: "at 2027-03-01T08:00:00; boot 2024-02-29T08:00:00; wait 10s; tap A; ntp",
		want: "A in stored unset 2024-02-29 08:00:10 -> 2027-03-01 08:00:10"},
	{name: "the last second of 32 bits", story: "at 2038-01-19T11:14:00; boot 1970-01-01T08:00:00; wait 7s; tap A; ntp; wait 1s; tap B; wait 2m; tap A",
		want: `A in stored unset 1970-01-01 08:00:07 -> 2038-01-19 11:14:07
			B in stored synced 2038-01-19 11:14:08 -> 2038-01-19 11:14:08
			A out stored synced 2038-01-19 11:16:08 -> 2038-01-19 11:16:08`},
	{name: "a clock behind the end of 32 bits", story: "boot 2099-12-31T23:59:50; wait 10s; tap A; ntp",
		want: "A in stored unset 2100-01-01 00:00:00 -> 2026-11-21 08:00:10"},
	{name: "a month ends while the clock is unset", warns: 1, story: "at 2026-11-30T20:00:00; boot right; ntp; tap A; off 8h; boot 1970-01-01T08:00:00; wait 1m; tap A; wait 1m; ntp; wait 1m; tap B; wait 1m; tap C; wait 1m; tap D; wait 1m; tap A; wait 1m; tap B",
		want: `A in stored synced 2026-11-30 20:00:00 -> 2026-11-30 20:00:00
			A in stored unset 1970-01-01 08:01:00 -> 2026-12-01 04:01:00
			B in stored synced 2026-12-01 04:03:00 -> 2026-12-01 04:03:00
			C in stored synced 2026-12-01 04:04:00 -> 2026-12-01 04:04:00
			D in stored synced 2026-12-01 04:05:00 -> 2026-12-01 04:05:00
			A out stored synced 2026-12-01 04:06:00 -> 2026-12-01 04:06:00
			B out stored synced 2026-12-01 04:07:00 -> 2026-12-01 04:07:00`},
	{name: "the hour that comes twice", config: "timezone = \"America/New_York\"", story: "at 2027-11-07T01:30:00; boot right; ntp; tap A; wait 1h; tap A",
		want: `A in stored synced 2027-11-07 01:30:00 -> 2027-11-07 01:30:00
			A out stored synced 2027-11-07 01:30:00 -> 2027-11-07 01:30:00`},
	{name: "a zone that does not exist", config: "timezone = \"Asia/Taipeh\"", refuse: "Asia/Taipeh"},
	{name: "a zone that is a word of this machine only", config: "timezone = \"Local\"", refuse: "Local"},
}

func TestEveryClockStoryEndsWithTheRightTimes(t *testing.T) {
	if len(clockCases) < 40 {
		t.Errorf("%d cases", len(clockCases))
	}
	for _, c := range clockCases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { newWorld(t, dir, &c).play() })
		})
	}
}

func TestFarSidesClockIsShownAndChangesNothing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, &clockCase{name: "skew"})
		time.Sleep(time.Until(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)))
		for _, c := range []struct {
			story string
			skew  float64
			said  string
		}{
			{"boot right; ntp; tap A; wait 2s", 0, ""},
			{"ntp 50s; wait 2m; tap A; wait 2s", -50, ""},
			{"ntp -90s; wait 2m; tap A; wait 2s", 90, "ahead_of_us=1m30s clock=synced"},
			{"ntp -100s; wait 2m; tap A; wait 2s", 100, ""}, // no news
			{"ntp -8h; wait 2m; tap A; wait 2s", 28800, "ahead_of_us=8h0m0s"},
			{"ntp; wait 2m; tap A; wait 2s", 0, "agree again"},
		} {
			w.log.mu.Lock()
			w.log.Reset()
			w.log.mu.Unlock()
			w.tell(c.story)
			st := w.house.clockStatus()
			if got := st.ServerSkew; got == nil || *got != c.skew || st.State != "synced" || st.ErrorBoundMS != 20 {
				t.Errorf("%s: %+v, want %v", c.story, st, c.skew)
			}
			w.log.mu.Lock()
			said := w.log.String()
			w.log.mu.Unlock()
			if strings.Contains(said, "far side's clock") != (c.said != "") || !strings.Contains(said, c.said) {
				t.Errorf("%s: said\n%s", c.story, said)
			}
		}
		w.stop()
	})
}

func TestSettlingATimeFromTheCommandLine(t *testing.T) {
	h := &house{t: t, dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(h.dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := h.write("punchclock.toml", strings.NewReplacer("ID104", "a", "IDFS", "b").Replace(outageConfig))
	cfg, err := loadConfig(path, built())
	if err != nil {
		t.Fatal(err)
	}
	b, err := openOutbox(cfg, slog.New(slog.DiscardHandler), func() punch.Stamp { return punch.Stamp{BootID: [16]byte{9}} }, &directory{})
	if err != nil {
		t.Fatal(err)
	}
	evening := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC) // 18:00 in Taipei
	for i, s := range []punch.Stamp{
		{Wall: evening, BootID: [16]byte{1}, Uptime: time.Hour, Clock: punch.Synced, ErrorBound: time.Millisecond},
		{Wall: time.UnixMilli(60_000), BootID: [16]byte{2}, Uptime: time.Minute, Clock: punch.Unset, ErrorBound: punch.MaxErrorBound},
		{Wall: evening.Add(14 * time.Hour), BootID: [16]byte{3}, Uptime: time.Minute, Clock: punch.Synced, ErrorBound: time.Millisecond},
	} {
		if _, err := b.Append(punch.Draft{Tap: punch.Tap{byte(i + 1)}, Kind: punch.Out, Badge: "em:0A1B2C3D4E", Employee: "000123", Reader: "front", Outcome: punch.Stored, Stamp: s}); err != nil {
			t.Fatal(err)
		}
	}
	const id = "tpe-1f-lobby-000000000002"
	if err := b.Settle("104", []punch.Verdict{{ID: id, Fate: punch.Refuse, Reason: punch.ReasonTimeUncertain, Message: "it said 1970"}}); err != nil {
		t.Fatal(err)
	}
	b.Close()
	say := func(code int, want string, args ...string) {
		t.Helper()
		var out bytes.Buffer
		if got := Main(t.Context(), append(args, "--config", path), nil, &out, &out); got != code || !strings.Contains(out.String(), want) {
			t.Errorf("%v: exit code %d, want %d\n%s\nwant %q", args, got, code, out.String(), want)
		}
	}
	say(0, "after punch tpe-1f-lobby-000000000001 (2026-11-21 18:00:00), before the boot of punch tpe-1f-lobby-000000000003 (2026-11-22 07:59:00); it said 1970", "queue", "ls", "--state", "parked")
	say(0, `"not_before": "2026-11-21T18:00:59.999+08:00"`, "queue", "ls", "--state", "parked", "--json")
	say(2, "say which punch and when", "queue", "settle-time", "--punch", id)
	say(2, "write a moment as 2026-11-21T08:30", "queue", "settle-time", "--punch", id, "--time", "2026-11-21")
	say(2, "want <device>-<12 digits>", "queue", "settle-time", "--punch", "2", "--time", "2026-11-21T19:00")
	say(2, "its time is known", "queue", "settle-time", "--punch", "tpe-1f-lobby-000000000001", "--time", "2026-11-21T19:00")
	say(2, "insist with --force", "queue", "settle-time", "--punch", id, "--time", "2026-11-21T17:30")
	say(0, "1 settled", "queue", "settle-time", "--punch", id, "--time", "2026-11-21T18:30", "--by", "hr 7")
	say(2, "decided before", "queue", "settle-time", "--punch", id, "--time", "2026-11-21T18:31")
	say(0, `"corrected_time_ms":1795257000000`, "punches", "export")
	say(0, `"corrected_by":"hr 7"`, "punches", "export")
	say(0, "2026-11-21T18:30:00.000+08:00", "queue", "ls")
	say(0, "3 records", "verify")
}

// A medium that fails in the very moment in which the time becomes known must not
// leave punches held until the next boot.
func TestBootsTimeIsOfferedAgainWhenTheMediumRefusedIt(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, &clockCase{})
		time.Sleep(time.Until(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)))
		w.tell("boot -3h; wait 10s; tap A; wait 1m")
		sound := w.house.outbox
		broken, err := queue.Open(queue.Options{Dir: filepath.Join(t.TempDir(), "other"), Device: "tpe", UnsafeNoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		broken.Close()
		w.house.outbox = broken
		w.tell("ntp; wait 1m")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.house.watchHealth(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if !w.house.bootTimeDue.Load() || len(w.tc.Ledger()) != 0 {
			t.Errorf("due %v, %d sent", w.house.bootTimeDue.Load(), len(w.tc.Ledger()))
		}
		cancel()
		<-done
		w.house.outbox = sound
		ctx, cancel = context.WithCancel(t.Context())
		go func() { done <- w.house.watchHealth(ctx) }()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if l := w.tc.Ledger(); w.house.bootTimeDue.Load() || len(l) != 1 || l[0].CardTime != time.Date(2026, 11, 21, 0, 0, 10, 0, time.UTC).UnixMilli() {
			t.Errorf("due %v, ledger %+v", w.house.bootTimeDue.Load(), l)
		}
		cancel()
		<-done
		w.stop()
	})
}

// world is a machine with a story: the truth is the bubble's own time.
type world struct {
	t   *testing.T
	c   *clockCase
	dir string
	cfg *config
	log *lockedLog
	tc  *sandbox.TransferCard

	mu      sync.Mutex
	boot    byte
	booted  time.Time
	ahead   time.Duration // wall clock before the truth
	kernel  clock.Kernel
	chip    string
	wake    chan<- struct{}
	lose    bool
	offline bool

	staff  map[string]person
	taps   []tapTruth
	events chan device.Event
	house  *clockwork
	stop   func()
}

// tapTruth is what a tap really was.
type tapTruth struct {
	who  string
	at   time.Time
	wall time.Time
}

type lockedLog struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func newWorld(t *testing.T, dir string, c *clockCase) *world {
	w := &world{t: t, c: c, dir: dir, log: &lockedLog{}, staff: map[string]person{}}
	crowd := people(5)
	var known []sandbox.Person
	for i, name := range []string{"A", "B", "C", "D", "X"} {
		w.staff[name] = crowd[i]
		known = append(known, sandbox.People(crowd[i].number)...)
	}
	w.tc = sandbox.NewTransferCard(sandbox.TransferCardConfig{People: known})
	id, secret := w.tc.Credentials()
	h := &house{t: t, dir: dir}
	if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write("104-secret", secret)
	device, tables := c.config, ""
	if strings.HasPrefix(device, "[") {
		device, tables = "", device
	}
	path := h.write("punchclock.toml", fmt.Sprintf(`schema = 1
[device]
id = "tpe"
state_dir = "state"
%s
[kiosk]
listen = ""
[[reader]]
name = "front"
driver = "serial"
port = "/dev/null"
[[destination]]
name = "104"
driver = "transfercard"
client_id = %q
client_secret_file = "104-secret"
%s
`, device, id, tables))
	cfg, err := loadConfig(path, built())
	if c.refuse != "" {
		if err == nil || !strings.Contains(err.Error(), c.refuse) || !strings.Contains(err.Error(), ":4:") && !strings.Contains(err.Error(), ":5:") {
			t.Errorf("the configuration is refused with: %v", err)
		}
		return w
	}
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = cfg
	return w
}

// answerTime is more than a tap takes to be at both far sides, token calls included.
const answerTime = 200 * time.Millisecond

// RoundTrip is the network, and the far side's clock.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	offline := w.offline
	lose := w.lose && !strings.Contains(r.URL.Path, "token")
	if lose && !offline {
		w.lose = false
	}
	w.mu.Unlock()
	if offline {
		return nil, fmt.Errorf("no route to host")
	}
	resp, err := sandbox.Transport(w.tc).RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if lose {
		resp.Body.Close()
		return nil, fmt.Errorf("connection reset by peer")
	}
	resp.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	return resp, nil
}

// machine is the computer of this boot.
func (w *world) machine() *clock.Machine {
	booted := w.booted
	return &clock.Machine{
		BootID: [16]byte{w.boot},
		Wall:   func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return time.Now().Add(w.ahead) },
		Uptime: func() time.Duration { return time.Since(booted) },
		Kernel: func() (clock.Kernel, error) { w.mu.Lock(); defer w.mu.Unlock(); return w.kernel, nil },
		Chip:   func() (string, bool) { return w.chip, w.chip != "" },
		Steps: func(ctx context.Context, wake chan<- struct{}) error {
			w.mu.Lock()
			w.wake = wake
			w.mu.Unlock()
			<-ctx.Done()
			return nil
		},
	}
}

// start runs the program, as run does.
func (w *world) start() {
	t := w.t
	c := &clockwork{cfg: w.cfg, log: slog.New(slog.NewTextHandler(w.log, nil)), metrics: newMetrics(), network: w}
	var err error
	if c.clock, err = clock.New(clock.Config{Trust: w.cfg.Clock.Trust, StateFile: filepath.Join(w.dir, "state", "clock.json"), Machine: w.machine()}); err != nil {
		t.Fatal(err)
	}
	people := &directory{}
	if c.outbox, err = openOutbox(w.cfg, c.log, stamps{c.clock}.Now, people); err != nil {
		t.Fatal(err)
	}
	if c.roster, err = openRoster(w.cfg, c.log, nil); err != nil {
		t.Fatal(err)
	}
	people.set(c.roster)
	w.house = c
	if len(w.taps) == 0 {
		w.hire("A", "B", "C", "D")
	}
	for _, d := range w.cfg.Destinations {
		x := c.newWorker(d)
		c.workers = append(c.workers, x)
	}
	c.kiosk = c.newKiosk(nil, nil, nil, nil)
	w.events = make(chan device.Event)
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error { return c.outbox.Run(ctx) })
	g.Go(func() error { return c.clock.Watch(ctx, c.clockChanged) })
	g.Go(func() error { return c.watchRoster(ctx) })
	g.Go(func() error { return c.kiosk.Run(ctx, w.events) })
	for _, x := range c.workers {
		g.Go(func() error { return x.Run(ctx) })
	}
	w.stop = func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		c.outbox.Close()
		c.roster.Close()
		w.stop = nil
	}
	synctest.Wait()
}

func (w *world) hire(names ...string) {
	var rows []*roster.Row
	for _, n := range names {
		p := w.staff[n]
		rows = append(rows, &roster.Row{Employee: punch.Employee{Number: p.number, Name: p.name, Badges: []punch.Badge{punch.Badge(p.badge())}, Active: true}})
	}
	if _, err := w.house.roster.Replace(rows); err != nil {
		w.t.Fatal(err)
	}
}

// span reads 90s, 3h, 50d, 10y, with a sign.
func (w *world) span(s string) time.Duration {
	unit := map[byte]time.Duration{'d': 24 * time.Hour}[s[len(s)-1]]
	if s[len(s)-1] == 'y' {
		n, err := strconv.Atoi(s[:len(s)-1])
		if err != nil {
			w.t.Fatal(err)
		}
		now := time.Now()
		return now.AddDate(n, 0, 0).Sub(now)
	}
	if unit > 0 {
		n, err := strconv.Atoi(s[:len(s)-1])
		if err != nil {
			w.t.Fatal(err)
		}
		return time.Duration(n) * unit
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) moment(s string) time.Time {
	at, err := time.ParseInLocation("2006-01-02T15:04:05", s, w.cfg.Device.Timezone)
	if err != nil {
		w.t.Fatal(err)
	}
	return at
}

// set moves the wall clock.
func (w *world) set(ahead time.Duration, k *clock.Kernel) {
	w.mu.Lock()
	stepped := w.ahead != ahead
	w.ahead = ahead
	if k != nil {
		w.kernel = *k
	}
	wake := w.wake
	w.mu.Unlock()
	if stepped && wake != nil {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

func (w *world) play() {
	if w.c.refuse != "" {
		return
	}
	time.Sleep(time.Until(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)))
	w.tell(w.c.story)
	time.Sleep(2 * time.Second) // after a start the ceiling takes one to be sure
	synctest.Wait()
	w.judge()
	if w.stop != nil {
		w.stop()
	}
}

func (w *world) tell(story string) {
	for _, line := range strings.Split(story, ";") {
		f := strings.Fields(line)
		w.do(f[0], f[1:])
		synctest.Wait()
	}
}

func (w *world) do(word string, args []string) {
	t := w.t
	switch word {
	case "at":
		time.Sleep(time.Until(w.moment(args[0])))
	case "wait":
		time.Sleep(w.span(args[0]))
	case "boot":
		if w.stop != nil {
			w.stop()
		}
		w.boot++
		w.booted, w.wake, w.chip = time.Now(), nil, ""
		w.kernel = clock.Kernel{Bound: 16 * time.Second}
		switch wall := args[0]; {
		case wall == "right":
			w.ahead = 0
		case wall[0] == '+' || wall[0] == '-':
			w.ahead = w.span(wall)
		default:
			w.ahead = time.Until(w.moment(wall))
		}
		if len(args) > 1 {
			w.chip = strings.TrimPrefix(args[1], "chip=")
		}
		w.start()
	case "off":
		time.Sleep(answerTime)
		w.stop()
		time.Sleep(w.span(args[0]) - answerTime)
	case "stop":
		w.stop()
		w.wake = nil
	case "start":
		w.start()
	case "step":
		w.set(w.ahead+w.span(args[0]), nil)
	case "ntp":
		off := time.Duration(0)
		if len(args) > 0 {
			off = w.span(args[0])
		}
		w.set(off, &clock.Kernel{Synced: true, Bound: 20 * time.Millisecond})
	case "deaf":
		w.set(w.ahead, &clock.Kernel{Bound: 16 * time.Second})
	case "tap":
		p := w.staff[args[0]]
		now := time.Now()
		w.taps = append(w.taps, tapTruth{who: args[0], at: now, wall: now.Add(w.ahead)})
		w.events <- device.Event{Reader: "front", What: device.Card, Medium: "em", Value: strings.TrimPrefix(p.badge(), "em:"),
			Raw: p.card[:], Bits: 40, First: now, Last: now}
	case "choose":
		k, err := punch.ParseKind(args[0])
		if err == nil {
			err = w.house.kiosk.ChooseKind(t.Context(), k)
		}
		if err != nil {
			t.Error(err)
		}
	case "hire":
		w.hire("A", "B", "C", "D", "X")
	case "cut", "mend":
		w.mu.Lock()
		w.offline = word == "cut"
		w.mu.Unlock()
	case "lose":
		w.mu.Lock()
		w.lose = true
		w.mu.Unlock()
	case "settle", "refused":
		seq, _ := strconv.ParseUint(args[0], 10, 64)
		q := url.Values{"punch": {string(punch.NewID("tpe", seq))}, "time": {args[1]}, "by": {"hr"}}
		for _, flag := range args[2:] {
			q.Set(flag, "1")
		}
		body, err := w.control().do(t.Context(), "POST", "/queue/time", q, nil)
		if (err == nil) != (word == "settle") {
			t.Errorf("%s %v: %v", word, args, err)
		}
		if err == nil {
			body.Close()
		}
	case "retry":
		body, err := w.control().do(t.Context(), "POST", "/queue/retry", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		body.Close()
	default:
		t.Fatalf("no such word: %s", word)
	}
}

// control is the command line's way in.
func (w *world) control() *controlClient {
	return &controlClient{http: &http.Client{Transport: inMemory{newControl(w.house).Handler}}, close: func() {}}
}

// judge compares what is there with what must be, and holds what no story may break.
func (w *world) judge() {
	t, loc := w.t, w.cfg.Device.Timezone
	const layout = "2006-01-02 15:04:05"
	var rows []queueRow
	if err := w.control().getJSON(t.Context(), "/queue?state=parked", &rows); err != nil {
		t.Fatal(err)
	}
	words := map[string]string{}
	for _, r := range rows {
		words[r.ID], _, _ = strings.Cut(r.Message, ";")
		words[r.ID] = strings.NewReplacer("tpe-00000000000", "#").Replace(words[r.ID])
	}
	type arrival struct {
		employee string
		ms       int64
	}
	var ledger []arrival
	for _, c := range w.tc.Ledger() {
		ledger = append(ledger, arrival{c.EmpNo, c.CardTime})
	}
	repeats := map[arrival]int{}
	for _, c := range w.tc.Repeats() {
		repeats[arrival{c.EmpNo, c.CardTime}]++
	}
	var got []string
	delivered, last := 0, -1
	err := w.house.outbox.Read(t.Context(), 1, func(e queue.Entry) error {
		i := int(e.Seq) - 1
		tap, p, d := w.taps[i], e.Punch, e.Deliveries["104"]
		state := p.Stamp.Clock.String()
		if p.Stamp.Clock == punch.Holdover {
			state += fmt.Sprintf("±%.1fs", p.Stamp.ErrorBound.Seconds())
		}
		where := ""
		switch d.State {
		case punch.Delivered:
			delivered++
			a := arrival{w.staff[tap.who].number, p.Time().UnixMilli()}
			at := slices.Index(ledger, a)
			where = "-> " + time.UnixMilli(a.ms).In(loc).Format(layout)
			if p.CorrectedBy != "" {
				where += " by " + p.CorrectedBy
			}
			if repeats[a] > 0 {
				where += ", twice"
			}
			if at < 0 {
				where = "LOST"
			}
			if p.CorrectedBy == "" && tap.who != "X" {
				if at < last {
					t.Errorf("punch %d arrived before one that was made earlier", e.Seq)
				}
				last = at
			}
			if off := p.Time().Sub(tap.at).Abs(); !w.c.lies && p.CorrectedBy == "" && off > max(p.Stamp.ErrorBound%punch.MaxErrorBound, time.Millisecond) && (p.Corrected.IsZero() || off > time.Second) {
				t.Errorf("punch %d was sent with a time that is off by %v", e.Seq, off)
			}
		case punch.Parked:
			where = "parked " + d.Reason
			if d.Reason == punch.ReasonTimeUncertain {
				where += ": " + words[string(e.ID)]
			}
		case punch.Skipped:
			where = "not sent"
		default:
			where = "pending"
			if p.Stamp.Clock == punch.Unset && p.Corrected.IsZero() {
				where = "held"
			}
		}
		if p.Stamp.Wall.UnixMilli() != tap.wall.UnixMilli() {
			t.Errorf("punch %d does not keep what the wall clock said: %v", e.Seq, p.Stamp.Wall)
		}
		if r := rowOf(e, "tpe", loc); (r.CorrectedMS != nil) != !p.Corrected.IsZero() || r.CorrectedMS != nil && *r.CorrectedMS != p.Time().UnixMilli() || r.TimeMS != tap.wall.UnixMilli() {
			t.Errorf("punch %d is exported with %+v", e.Seq, r)
		}
		got = append(got, fmt.Sprintf("%s %s %s %s %s %s", tap.who, p.Kind, p.Outcome, state, p.Stamp.Wall.In(loc).Format(layout), where))
		return nil
	})
	if err != nil || len(got) != len(w.taps) || delivered != len(ledger) {
		t.Errorf("%d taps, %d stored, %d delivered, %d in the ledger, %v", len(w.taps), len(got), delivered, len(ledger), err)
	}
	var want []string
	for _, line := range strings.Split(w.c.want, "\n") {
		want = append(want, strings.TrimSpace(line))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the story: %s\ngot\n  %s\nwant\n  %s", w.c.story, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	if n := strings.Count(w.log.String(), "this one differ"); n != w.c.warns {
		t.Errorf("%d warnings about the far side's clock, want %d:\n%s", n, w.c.warns, w.log.String())
	}
}
