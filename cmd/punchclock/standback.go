package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// standBack has this process take what processor time nobody else wants. A verb with much
// to do is for a person who can wait; the clock beside it has somebody at the door. Where
// it is not allowed, nothing changes.
func standBack() {
	known := map[string]bool{}
	for fresh := true; fresh; { // the runtime may start threads meanwhile, with the class of one that was not asked yet
		fresh = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		for _, t := range threads {
			if known[t.Name()] {
				continue
			}
			known[t.Name()], fresh = true, true
			if id, err := strconv.Atoi(t.Name()); err == nil {
				unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
			}
		}
	}
}
