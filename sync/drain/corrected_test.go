package drain_test

import (
	"testing"
	"testing/synctest"

	"punchclock/queue/punch"
	"punchclock/sync/drain/draintest"
)

func TestPunchCorrectedBeforeItLeftIsNotSentAndItsCorrectionOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []punch.ID
		f := &far{answer: func(_ int, batch []punch.Punch) ([]punch.Verdict, error) {
			for _, p := range batch {
				sent = append(sent, p.ID)
			}
			return accept(batch), nil
		}}
		r := start(t, f, &draintest.Log{}, nil)
		ps := punches(1, 3)
		ps[0].SupersededBy, ps[2].Supersedes = 3, 1
		ps[0].Employee, ps[0].Uncertain = "", true // nor parked for a person
		r.log.Append(ps...)
		synctest.Wait()
		if len(sent) != 2 || sent[0] != ps[1].ID || sent[1] != ps[2].ID {
			t.Errorf("sent %v", sent)
		}
		for _, v := range r.log.Verdicts("104") {
			if skipped := v.ID == ps[0].ID; skipped != (v.Fate == punch.Skip) || skipped && v.Reason != punch.ReasonSuperseded {
				t.Errorf("%+v", v)
			}
		}
	})
}
