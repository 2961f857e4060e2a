package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// reply is an answer read to its end.
type replyOf struct {
	status int
	header http.Header
	body   []byte
	err    error // of the call or of reading the body
}

func (r replyOf) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(r.body, &m); err != nil {
		t.Fatalf("answer %d %q is no JSON object: %v", r.status, r.body, err)
	}
	return m
}

func (r replyOf) code(t *testing.T) int {
	t.Helper()
	n, ok := r.json(t)["code"].(float64)
	if !ok {
		t.Fatalf("answer %s has no code", r.body)
	}
	return int(n)
}

func call(ctx context.Context, h http.Handler, method, path string, header map[string]string, body string) replyOf {
	req, err := http.NewRequestWithContext(ctx, method, "http://cloud.test"+path, strings.NewReader(body))
	if err != nil {
		return replyOf{err: err}
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	client := http.Client{Transport: Transport(h), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return replyOf{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return replyOf{resp.StatusCode, resp.Header, b, err}
}

// card is 104 with a client.
type cardClient struct {
	t *testing.T
	*TransferCard
	bearer string
}

func new104(t *testing.T, numbers ...string) *cardClient {
	if len(numbers) == 0 {
		numbers = []string{"A0001", "000123"}
	}
	return &cardClient{t: t, TransferCard: NewTransferCard(TransferCardConfig{People: People(numbers...)})}
}

const tokenForm = "grant_type=client_credentials&scope=prohrm"

func (c *cardClient) askToken() replyOf {
	id, secret := c.Credentials()
	form := tokenForm + "&client_id=" + url.QueryEscape(id) + "&client_secret=" + url.QueryEscape(secret)
	return call(c.t.Context(), c, "POST", TransferCardTokenPath, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, form)
}

func (c *cardClient) login() {
	c.t.Helper()
	r := c.askToken()
	if r.err != nil || r.status != 200 {
		c.t.Fatalf("token call: %d %s %v", r.status, r.body, r.err)
	}
	c.bearer = "Bearer " + r.json(c.t)["access_token"].(string)
}

func (c *cardClient) postTo(path, body string) replyOf {
	return call(c.t.Context(), c, "POST", path, map[string]string{"Content-Type": "application/json", "Authorization": c.bearer}, body)
}

// post logs in first if nobody has.
func (c *cardClient) post(body string) replyOf {
	c.t.Helper()
	if c.bearer == "" {
		c.login()
	}
	return c.postTo(TransferCardPath, body)
}

// punches makes a body of a number and consecutive milliseconds.
func punches(empNo string, from int64, n int) string {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `,{"empNo":%q,"cardTime":%d}`, empNo, from+int64(i))
	}
	return "[" + strings.TrimPrefix(b.String(), ",") + "]"
}

const someTime = 1766448000000

// feishuClient is Feishu with a client.
type feishuClient struct {
	t *testing.T
	*Feishu
	bearer string
}

func newFeishu(t *testing.T) *feishuClient {
	return &feishuClient{t: t, Feishu: NewFeishu(FeishuConfig{People: []Person{
		{Number: "A0123", FeishuID: "fs1", Mobile: "+886912345678", Email: "a@example.com"},
		{Number: "000123", FeishuID: "fs2", Mobile: "+886900000002", Resigned: true},
	}})}
}

var feishuJSON = "application/json; charset=utf-8"

func (f *feishuClient) askToken() replyOf {
	id, secret := f.Credentials()
	return call(f.t.Context(), f, "POST", FeishuTokenPath, map[string]string{"Content-Type": feishuJSON},
		fmt.Sprintf(`{"app_id":%q,"app_secret":%q}`, id, secret))
}

func (f *feishuClient) login() string {
	f.t.Helper()
	r := f.askToken()
	if r.err != nil || r.status != 200 || r.code(f.t) != 0 {
		f.t.Fatalf("token call: %d %s %v", r.status, r.body, r.err)
	}
	name := r.json(f.t)["tenant_access_token"].(string)
	f.bearer = "Bearer " + name
	return name
}

func (f *feishuClient) do(method, path, body string) replyOf {
	f.t.Helper()
	if f.bearer == "" {
		f.login()
	}
	return call(f.t.Context(), f, method, path, map[string]string{"Content-Type": feishuJSON, "Authorization": f.bearer}, body)
}

func (f *feishuClient) imports(records ...string) replyOf {
	f.t.Helper()
	return f.do("POST", FeishuImportPath+"?employee_type=employee_no", `{"flow_records":[`+strings.Join(records, ",")+`]}`)
}

// flow is a good record of a user and a key.
func flow(user, key string) string {
	return fmt.Sprintf(`{"user_id":%q,"creator_id":%q,"location_name":"Door 1","check_time":"1766448000","comment":"上班","external_id":%q,"idempotent_id":%q}`, user, user, key, key)
}
