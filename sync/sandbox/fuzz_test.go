package sandbox

import (
	"encoding/json"
	"testing"
)

// Whatever comes, 104 answers 200 or 400 in JSON, and stores what it counts.
func FuzzTransferCardBody(f *testing.F) {
	for _, s := range []string{`[]`, `[{"empNo":"A0001","cardTime":1566349095938}]`, `[{"empNo":null,"cardTime":1e3}]`, `[null]`, `[{"uno":1,"cardData":[{}]}]`, ` [ ] `, "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		c := new104(t)
		for _, path := range []string{TransferCardPath, TransferTpCardPath} {
			if c.bearer == "" {
				c.login()
			}
			r := c.postTo(path, body)
			if r.err != nil || r.status != 200 && r.status != 400 || !json.Valid(r.body) {
				t.Fatalf("%s: %d %s %v", path, r.status, r.body, r.err)
			}
		}
		for _, rec := range c.Ledger() {
			if !json.Valid([]byte(rec.Raw)) || rec.EmpNo != "A0001" && rec.EmpNo != "000123" {
				t.Fatalf("stored %+v", rec)
			}
		}
		if c.Counters().Accepted != len(c.Ledger()) {
			t.Fatalf("%+v, %d stored", c.Counters(), len(c.Ledger()))
		}
	})
}

// Whatever comes, Feishu answers in JSON with a code, and a refusal stores nothing.
func FuzzImportBody(f *testing.F) {
	for _, s := range []string{`{}`, `{"flow_records":[` + flow("A0123", "k") + `]}`, `{"flow_records":[null]}`, `{"flow_records":{}}`, `[]`, "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		c := newFeishu(t)
		r := c.do("POST", FeishuImportPath+"?employee_type=employee_no", body)
		if r.err != nil || r.status != 200 && r.status != 400 {
			t.Fatalf("%d %s %v", r.status, r.body, r.err)
		}
		if ok := r.code(t) == 0; ok != (r.status == 200) || ok != (len(c.Ledger()) > 0) {
			t.Fatalf("%d %s, %d stored", r.status, r.body, len(c.Ledger()))
		}
	})
}
