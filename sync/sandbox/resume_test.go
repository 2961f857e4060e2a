package sandbox

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// resumeClient asks the résumé service as it is, without a client's care.
type resumeClient struct {
	*Resumes
	t     *testing.T
	token string
}

func newResumes(t *testing.T) *resumeClient {
	c := &resumeClient{Resumes: NewResumes(ResumeConfig{KnownDays: true}), t: t}
	id, secret := c.Credentials()
	r := call(context.Background(), c.Resumes, "POST", ResumeTokenPath, map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
		"grant_type=client_credentials&scope=ehrweb_resume&client_id="+id+"&client_secret="+secret)
	c.token, _ = r.json(t)["access_token"].(string)
	if r.status != 200 || c.token == "" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	return c
}

func (c *resumeClient) get(path string) replyOf {
	return call(context.Background(), c.Resumes, "GET", path, map[string]string{"Authorization": "Bearer " + c.token, "104-Additional-Info": "guiNum=" + c.Company()}, "")
}

func TestTheResumeServiceAnswersAsItsContractSays(t *testing.T) {
	const day = "?date=2025-04-25&startTime=12&endTime=13"
	for _, c := range []struct {
		name, path string
		status     int
		has        string
	}{
		{"applied", ResumeListPath + day + "&flag=1", 200, `"idList":["1000000001","1000000002"],"queryDate":"2025-04-25T00:00:00.000Z","total":2`},
		{"matched", ResumeListPath + "?date=2025-08-22&startTime=0&endTime=24&flag=0", 200, `"total":24`},
		{"saved", ResumeListPath + "?date=2025-11-05&startTime=16&endTime=17&flag=2", 200, `"total":1`},
		{"an hour without any", ResumeListPath + "?date=2025-04-25&startTime=13&endTime=14", 200, `"idList":[]`},
		{"one", ResumeQueryPath + day + "&idno=1000000001", 200, `"fullName":"測試 一號"`},
		{"ten", ResumeBatchPath + day + "&idnos=1000000002,1000000001", 200, `"resumeId":"1000000001"`},
		{"eleven", ResumeBatchPath + day + "&idnos=1,2,3,4,5,6,7,8,9,10,11", 500, `"code":898`},
		{"an unknown id", ResumeQueryPath + day + "&idno=9", 500, `"code":898`},
		{"an id of another hour", ResumeQueryPath + "?date=2025-04-25&startTime=11&endTime=12&idno=1000000001", 500, `"code":898`},
		{"no id", ResumeQueryPath + day, 500, `"code":898`},
		{"flag", ResumeListPath + day + "&flag=3", 500, `"code":896`},
		{"hours", ResumeListPath + "?date=2025-04-25&startTime=13&endTime=13", 500, `"code":897`},
		{"no date", ResumeListPath + "?startTime=1&endTime=2", 500, `"code":897`},
		{"date's form", ResumeListPath + "?date=2025/04/25&startTime=1&endTime=2", 500, `"code":996`},
		{"strange field", ResumeListPath + day + "&x=1", 500, `"code":899`},
		{"unknown file", ResumeHeadshotPath + "?fileId=x", 500, `"code":895`},
		{"other path", ResumeBase + "/resumes", 404, ""},
	} {
		r := newResumes(t).get(c.path)
		if r.status != c.status || !strings.Contains(string(r.body), c.has) {
			t.Errorf("%s: %d %s", c.name, r.status, r.body)
		}
	}
	c := newResumes(t)
	c.SetFaults(func(f *ResumeFaults) { f.ErrorStatus = 200 })
	if r := call(context.Background(), c.Resumes, "GET", ResumeListPath+day, map[string]string{"Authorization": "Bearer " + c.token}, ""); r.status != 200 || r.code(t) != CodeBadCompany {
		t.Errorf("without a tax id: %d %s", r.status, r.body)
	}
	c.token = "x"
	if r := c.get(ResumeListPath + day); r.status != 401 {
		t.Errorf("a strange token: %d", r.status)
	}
}

func TestResumeLinksExpireAndTheLimiterCountsThreeASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newResumes(t)
		time.Sleep(2 * time.Second)
		var v struct {
			Data struct {
				List []struct {
					Photo string `json:"headshotUrl"`
				} `json:"list"`
			} `json:"data"`
		}
		r := c.get(ResumeQueryPath + "?date=2025-04-25&startTime=12&endTime=13&idno=1000000001")
		if err := json.Unmarshal(r.body, &v); err != nil || len(v.Data.List) != 1 {
			t.Fatalf("%v %s", err, r.body)
		}
		_, file, _ := strings.Cut(v.Data.List[0].Photo, "?")
		if r := c.get(ResumeHeadshotPath + "?" + file); r.status != 200 || http.DetectContentType(r.body) != "image/png" {
			t.Errorf("%d", r.status)
		}
		if r := c.get(ResumeAttachmentPath + "?" + file); r.code(t) != CodeFileExpired {
			t.Errorf("a portrait as an attachment: %d", r.status)
		}
		if r := c.get(ResumeHeadshotPath + "?" + file); r.status != 429 || c.Counters().RateLimited != 1 {
			t.Errorf("the fourth call in a second: %d", r.status)
		}
		time.Sleep(10 * time.Minute)
		if r := c.get(ResumeHeadshotPath + "?" + file); r.code(t) != CodeFileExpired {
			t.Errorf("after its end: %d", r.status)
		}
		if h := c.Hours(); len(h) != 0 {
			t.Errorf("%v", h)
		}
		c.get(ResumeListPath + "?date=2025-04-25&startTime=9&endTime=10")
		if h := c.Hours(); h["2025-04-25 09"] != 1 {
			t.Errorf("%v", h)
		}
	})
}
