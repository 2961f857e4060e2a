package main

import (
	"syscall"
	"testing"
	"time"
)

// SIGQUIT ends a Go program the way a panic does. systemd does not start it again
// after exit code 2, and a bug is none of the configuration.
func TestAPanicDoesNotLookLikeAWrongConfiguration(t *testing.T) {
	h := newHouse(t, settings{})
	h.start()
	if err := h.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-h.exited:
	case <-time.After(10 * time.Second):
		t.Fatal("it did not end")
	}
	ws := h.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ws.Signaled() || h.cmd.ProcessState.ExitCode() == exitUsage {
		t.Errorf("it ended with %v", h.cmd.ProcessState)
	}
}
