package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"punchclock/sync/sandbox"
)

// The ids of the sandbox; its secrets are made up at random, once per directory.
const (
	clientID = "sandbox-104"
	appID    = "cli_sandbox"
	account  = "svc-sandbox"

	secret104    = "104-secret"
	secretFeishu = "feishu-secret"
	secretSignin = "signin-password"
)

const cloudsDefault = "127.0.0.1:8104"

func cloudsCmd(io std) *cobra.Command {
	var listen, dir, roster string
	var any, asJSON, signin bool
	cmd := &cobra.Command{
		Use:   "clouds",
		Short: "Serve 104, Feishu and the sign-in system on loopback, with a control page",
		Args:  none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			people, err := readPeople(roster)
			if err != nil {
				return err
			}
			if err := loopback(listen); err != nil {
				return err
			}
			c, err := openClouds(listen, dir, people, any, signin)
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(io.out).Encode(c.about())
			} else {
				_, err = fmt.Fprintf(io.out, "%s\n# control page: %s\n", c.destinations(), c.control())
			}
			if err != nil {
				c.listener.Close()
				return err
			}
			return c.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", cloudsDefault, "loopback `address` to serve on; port 0 takes a free one")
	f.StringVar(&dir, "dir", ".run", "`directory` of the secret files; made if missing, kept if there")
	f.StringVar(&roster, "roster", "", "CSV `file` of the employees the clouds know (default: the demo's)")
	f.BoolVar(&any, "accept-any", false, "the clouds know every employee")
	f.BoolVar(&signin, "signin", false, "print a destination for the sign-in system too; it is served in any case")
	f.BoolVar(&asJSON, "json", false, "print where everything is as one line of JSON instead of TOML")
	return cmd
}

// loopback refuses an address that somebody else could reach.
func loopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return usagef("address %q: write host:port, for example %s", addr, cloudsDefault)
	}
	if host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return usagef("address %q is not loopback: the sandbox takes made-up secrets and must not be reachable; use 127.0.0.1", addr)
	}
	return nil
}

// listenNear listens on addr, or on a free port of the same host when that port is taken.
func listenNear(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		host, _, _ := net.SplitHostPort(addr)
		l, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	return l, err
}

// clouds are the remote systems and their control page on one port.
type clouds struct {
	dir      string
	tc       *sandbox.TransferCard
	fs       *sandbox.Feishu
	si       *sandbox.Signin
	signin   bool // punches go to the sign-in system as well
	listener net.Listener
	server   *http.Server
}

const controlPrefix = "/_control"

// openClouds listens; run serves. The port must be free.
func openClouds(listen, dir string, people []person, acceptAny, signin bool) (*clouds, error) {
	c, err := newClouds(dir, people, acceptAny, signin)
	if err != nil {
		return nil, err
	}
	if c.listener, err = net.Listen("tcp", listen); err != nil {
		return nil, fmt.Errorf("serve the clouds: %w; name another port with --listen", err)
	}
	return c, nil
}

func newClouds(dir string, people []person, acceptAny, signin bool) (*clouds, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory for secrets: %w", err)
	}
	s104, err := secretFile(filepath.Join(dir, secret104))
	if err != nil {
		return nil, err
	}
	sFeishu, err := secretFile(filepath.Join(dir, secretFeishu))
	if err != nil {
		return nil, err
	}
	sSignin, err := secretFile(filepath.Join(dir, secretSignin))
	if err != nil {
		return nil, err
	}
	c := &clouds{
		dir: dir, signin: signin,
		tc: sandbox.NewTransferCard(sandbox.TransferCardConfig{ClientID: clientID, ClientSecret: s104, People: known(people), AcceptAny: acceptAny}),
		fs: sandbox.NewFeishu(sandbox.FeishuConfig{AppID: appID, AppSecret: sFeishu, People: known(people), AcceptAny: acceptAny}),
		si: sandbox.NewSignin(sandbox.SigninConfig{UserID: account, Password: sSignin, People: known(people), AcceptAny: acceptAny}),
	}
	mux := http.NewServeMux()
	mux.Handle("/", c.tc)
	mux.Handle("/open-apis/", c.fs)
	mux.Handle("/api/public/", c.si)
	mux.Handle(controlPrefix+"/", http.StripPrefix(controlPrefix, sandbox.NewControl(c.tc, c.fs, c.si)))
	mux.Handle("GET /{$}", http.RedirectHandler(controlPrefix+"/", http.StatusSeeOther))
	c.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	return c, nil
}

// secretFile reads a made-up secret, or makes it up. It is kept, so that a clock
// that is still running knows its clouds again after they were restarted.
func secretFile(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(b))) > 0 {
		return strings.TrimSpace(string(b)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read a sandbox secret: %w", err)
	}
	secret := "sandbox-not-a-secret-" + rand.Text()
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write a sandbox secret: %w", err)
	}
	return secret, nil
}

func (c *clouds) base() string    { return "http://" + c.listener.Addr().String() }
func (c *clouds) control() string { return c.base() + controlPrefix + "/" }

// run serves until ctx is done, then ends every connection.
func (c *clouds) run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- c.server.Serve(c.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the clouds: %w", err)
	case <-ctx.Done():
	}
	err := c.server.Close()
	<-served
	return err
}

// destinations is the part of a punchclock's configuration that speaks to these clouds.
func (c *clouds) destinations() string {
	text := fmt.Sprintf(`[[destination]]
name               = "104"
driver             = "transfercard"
api_base           = %q
token_url          = %q
client_id          = %q
client_secret_file = %q

[[destination]]
name            = "feishu"
driver          = "feishu"
base_url        = %q
app_id          = %q
app_secret_file = %q
`, c.base()+sandbox.TransferCardBase, c.base()+sandbox.TransferCardTokenPath, clientID, filepath.Join(c.dir, secret104),
		c.base(), appID, filepath.Join(c.dir, secretFeishu))
	if !c.signin {
		return text
	}
	return text + fmt.Sprintf(`
[[destination]]
name          = "signin"
driver        = "signin"
mode          = "service_account"
base_url      = %q
user_id       = %q
password_file = %q
`, c.base(), account, filepath.Join(c.dir, secretSignin))
}

// about is the same for programs.
func (c *clouds) about() any {
	return map[string]any{
		"url":     c.base(),
		"control": c.control(),
		sandbox.Name104: map[string]string{
			"api_base": c.base() + sandbox.TransferCardBase, "token_url": c.base() + sandbox.TransferCardTokenPath,
			"client_id": clientID, "client_secret_file": filepath.Join(c.dir, secret104)},
		sandbox.NameFeishu: map[string]string{
			"base_url": c.base(), "app_id": appID, "app_secret_file": filepath.Join(c.dir, secretFeishu)},
		sandbox.NameSignin: map[string]string{
			"base_url": c.base(), "user_id": account, "password_file": filepath.Join(c.dir, secretSignin)},
	}
}
