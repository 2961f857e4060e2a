package main

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"punchclock/device/devicetest"
)

// nfc is a PN532 at the other end of a terminal, by the frames of its manual.
type nfc struct {
	line *os.File
	mu   sync.Mutex
	card string // its answer to the question for a card, "" for an empty field
	asks bool   // the question waits
	last string // what it said last
}

const (
	nfcNone  = ""
	nfcSeven = "0000FF0FF1D54B010100440007" + "04A1B2C3D4E58040" + "00"
	nfcPhone = "0000FF0CF4D54B010100042004" + "0811223348" + "00"
)

func (n *nfc) say(frame string) {
	b, err := hex.DecodeString(frame)
	if err != nil {
		panic(err)
	}
	n.line.Write(b)
	n.last = frame
}

func (n *nfc) hold(card string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.card = card; card != "" && n.asks {
		n.asks = false
		n.say(card)
	}
}

func (n *nfc) run() {
	const ack = "0000FF00FF00"
	answers := map[string]string{
		"D4140100":   "0000FF02FED5151600",
		"D402":       "0000FF06FAD50332010607E800",
		"D43205FF01": "0000FF02FED533F800",
	}
	var buf []byte
	b := make([]byte, 64)
	for {
		k, err := n.line.Read(b)
		if err != nil {
			return
		}
		buf = append(buf, b[:k]...)
		for {
			i := bytes.Index(buf, []byte{0x00, 0x00, 0xFF})
			if i < 0 || len(buf) < i+6 {
				break
			}
			body := buf[i+3:]
			if body[0] == 0 { // ACK: give up
				n.mu.Lock()
				n.asks = false
				n.mu.Unlock()
				buf = body[3:]
				continue
			}
			if body[0] == 0xFF { // NACK: again
				n.mu.Lock()
				n.say(n.last)
				n.mu.Unlock()
				buf = body[3:]
				continue
			}
			end := int(body[0]) + 4
			if len(body) < end {
				break
			}
			said := strings.ToUpper(hex.EncodeToString(body[2 : 2+int(body[0])]))
			buf = body[end:]
			n.mu.Lock()
			n.say(ack)
			for prefix, answer := range answers {
				if strings.HasPrefix(said, prefix) {
					n.say(answer)
				}
			}
			if strings.HasPrefix(said, "D44A") {
				if n.asks = n.card == ""; !n.asks {
					n.say(n.card)
				}
			}
			n.mu.Unlock()
		}
	}
}

func TestACardAtAPN532IsAPunchAndAPhoneIsNot(t *testing.T) {
	h := newHouse(t, settings{})
	master, path := devicetest.NewPTY(t)
	chip := &nfc{line: master}
	done := make(chan struct{})
	go func() { defer close(done); chip.run() }()
	defer func() { master.Close(); <-done }()
	link := h.dir + "/nfc"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.write("punchclock.toml", string(conf)+"\n[[reader]]\nname = \"nfc\"\ndriver = \"pn532\"\nport = \""+link+"\"\n")
	h.write("roster.csv", "employee_no,name,badges\n000777,周,uid:04A1B2C3D4E580\n")
	if out, code := h.run("roster", "import", "--config", h.config, h.dir+"/roster.csv"); code != 0 {
		t.Fatal(out)
	}
	h.start()
	h.until(5*time.Second, "the chip is up", func() bool { return h.status().Readers[1].State == "ok" })
	chip.hold(nfcSeven)
	if r := h.answer(); r.Outcome != "stored" || r.Employee != "000777" || r.Reader != "nfc" {
		t.Errorf("%+v", r)
	}
	time.Sleep(1200 * time.Millisecond) // it stays there
	chip.hold(nfcNone)
	time.Sleep(time.Second)
	chip.hold(nfcPhone)
	if r := h.answer(); r.Outcome != "misread" || r.Reason != "random" || r.Seq != 0 {
		t.Errorf("%+v", r)
	}
	chip.hold(nfcNone)
	h.stop()
	out, _ := h.run("punches", "export", "--config", h.config)
	if strings.Count(out, "\n") != 1 || !strings.Contains(out, `"badge":"uid:04A1B2C3D4E580"`) {
		t.Errorf("export: %s", out)
	}
}

func TestAChipThatIsNotThereIsOneReaderDown(t *testing.T) {
	h := newHouse(t, settings{extra: "[[reader]]\nname = \"blue\"\ndriver = \"mfrc522\"\nport = \"/dev/spidev9.9\"\n" +
		"[[reader]]\nname = \"nfc\"\ndriver = \"pn532\"\nlink = \"i2c\"\nport = \"/dev/i2c-99\"\nirq = \"GPIO4\"\n"})
	h.start()
	if r := h.tap(h.people[0]); r.Outcome != "stored" {
		t.Errorf("%+v", r)
	}
	for _, r := range h.status().Readers[1:] {
		if r.State != "down" {
			t.Errorf("%+v", r)
		}
	}
	h.stop()
	for _, want := range []string{"dtparam=spi=on", "dtparam=i2c_arm=on"} {
		if !strings.Contains(h.logged(), want) {
			t.Errorf("the log does not say %s:\n%s", want, h.logged())
		}
	}
}
