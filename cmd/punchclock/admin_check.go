package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"punchclock/ui/text"
	"punchclock/ui/web"
)

// checkSection is the self-test: doctor's checks, made by a program of their own. What
// hangs there, on a device or a file system that does not answer, hangs outside the
// clock, and is ended with it.
func (r *adminRoom) checkSection() web.Section {
	return web.Section{Name: "check", Title: "check", Show: r.showCheck, Within: doctorLimit + 15*time.Second,
		Do: map[string]func(context.Context, web.Ask) (web.Answer, error){"check": r.checkNow}}
}

// checkState is the last self-test; one runs at a time.
type checkState struct {
	busy sync.Mutex
	mu   sync.Mutex
	last *checkup
}

func (r *adminRoom) showCheck(_ context.Context, ask web.Ask) ([]web.Block, error) {
	say := ask.Say
	out := []web.Block{{Title: say.Office("check"), Words: []string{say.Office("check.words")},
		Form: &web.Form{Do: "check", Submit: say.Office("check.go"), Busy: say.Office("check.busy")}}}
	r.check.mu.Lock()
	last := r.check.last
	r.check.mu.Unlock()
	if last == nil {
		return out, nil
	}
	marks := map[verdict]string{isOK: "ok", isWarning: "wait", isUnknown: "wait", isFailed: "stuck"}
	for _, g := range last.groups() {
		title, _ := say.Check(g.Title)
		b := web.Block{Title: title, Table: &web.Table{Head: []string{say.Office("what"), say.Office("state"), say.Office("detail"), say.Office("remedy")}}}
		for _, c := range g.Checks {
			name, remedy := say.Check(c.Title)
			if c.State == isOK {
				remedy = ""
			}
			b.Table.Rows = append(b.Table.Rows, web.Row{Mark: marks[c.State], Cells: []string{name, say.Office("check." + string(c.State)), dash(c.Detail), above(remedy, c.Remedy)}})
		}
		out = append(out, b)
	}
	out[0].Words = append(out[0].Words, checkSum(say, r.shownStamp(last.At), last.Summary))
	return out, nil
}

// above puts words over what they say in Chinese, where there are any.
func above(words, original string) string {
	if words == "" || original == "" {
		return dash(words + original)
	}
	return words + "\n" + original
}

func checkSum(say text.Catalog, at string, s checkupSummary) string {
	return say.Office("check.sum", at, s.OK, s.Warn, s.Fail, s.Unknown)
}

func (r *adminRoom) checkNow(ctx context.Context, ask web.Ask) (web.Answer, error) {
	say := ask.Say
	if !r.check.busy.TryLock() {
		return web.Answer{}, errors.New(say.Office("check.other"))
	}
	defer r.check.busy.Unlock()
	report, err := doctorsReport(ctx, r.h.cfg.path)
	if err != nil {
		r.h.log.Error("the self-test could not be made", "err", err)
		return web.Answer{}, errors.New(say.Office("failed"))
	}
	r.check.mu.Lock()
	r.check.last = report
	r.check.mu.Unlock()
	mark := "ok"
	if report.Summary.Fail > 0 {
		mark = "stuck"
	} else if report.Summary.Warn+report.Summary.Unknown > 0 {
		mark = "wait"
	}
	return web.Answer{Mark: mark, Words: checkSum(say, r.shownStamp(report.At), report.Summary)}, nil
}

// doctorsReport has this very program examine the machine.
func doctorsReport(ctx context.Context, config string) (*checkup, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "doctor", "--json", "--config", config)
	cmd.WaitDelay = time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	var report checkup
	if json.Unmarshal(out.Bytes(), &report) == nil && report.Schema == doctorSchema {
		return &report, nil // whatever the exit code says of it
	}
	return nil, fmt.Errorf("doctor: %w: %s", errors.Join(err, ctx.Err()), strings.TrimSpace(said.String()))
}
