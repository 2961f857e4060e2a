package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"punchclock/device/devicetest"
)

// nfc is a PN532 at the other end of a terminal, by the frames of its manual.
func TestACardAtAPN532IsAPunchAndAPhoneIsNot(t *testing.T) {
	h := newHouse(t, settings{})
	master, path := devicetest.NewPTY(t)
	chip := devicetest.NewPN532()
	hold := func(cards ...*devicetest.Tag) { chip.Do(func(p *devicetest.PN532) { p.Lay(cards...) }) }
	done := make(chan struct{})
	go func() { defer close(done); chip.Serve(master) }()
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
	hold(devicetest.NewTag("04A1B2C3D4E580"))
	if r := h.answer(); r.Outcome != "stored" || r.Employee != "000777" || r.Reader != "nfc" {
		t.Errorf("%+v", r)
	}
	time.Sleep(1200 * time.Millisecond) // it stays there
	hold()
	time.Sleep(time.Second)
	hold(devicetest.NewTag("08112233"))
	if r := h.answer(); r.Outcome != "misread" || r.Reason != "random" || r.Seq != 0 {
		t.Errorf("%+v", r)
	}
	hold()
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
