package screen

import (
	"bytes"
	"context"
	"image"
	"image/draw"
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"punchclock/device/devicetest"
	"punchclock/ui"
)

// watched is the real display, with a count of what is sent to it.
type watched struct {
	output
	mu   sync.Mutex
	sent []image.Rectangle
}

func (w *watched) flush(r image.Rectangle) error {
	w.mu.Lock()
	w.sent = append(w.sent, r)
	w.mu.Unlock()
	return w.output.flush(r)
}

func (w *watched) take() (sent []image.Rectangle) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent, w.sent = w.sent, nil
	return sent
}

// expected draws a scene outside of the guest.
func expected(t *testing.T, v view, w, h int) *image.RGBA {
	p := worker(t)
	c := newCanvas(w, h)
	p.paint(c, p.layout(v, w, h).ops, c.bounds())
	return c.image()
}

// compare looks for what was drawn on the picture of a display, whose colours have as many
// bits; 5 stands for 5, 6 and 5.
func compare(t *testing.T, name string, data []byte, w, h, bits int) {
	got, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Errorf("picture %s: %v", name, err)
		return
	}
	want := expected(t, pictures()[name], w, h)
	switch name {
	case "off":
		draw.Draw(want, want.Bounds(), image.Black, image.Point{}, draw.Src)
	case "dimmed":
		for i := range want.Pix {
			want.Pix[i] = want.Pix[i]/4 + want.Pix[i]/16
		}
	}
	if got.Bounds() != want.Bounds() {
		t.Errorf("picture %s is of %v", name, got.Bounds())
		return
	}
	green := bits
	if bits == 5 {
		green = 6
	}
	wrong := 0
	for y := range h {
		for x := range w {
			r, g, b, _ := got.At(x, y).RGBA()
			wr, wg, wb, _ := want.At(x, y).RGBA()
			if (r^wr)>>(16-bits) != 0 || (g^wg)>>(16-green) != 0 || (b^wb)>>(16-bits) != 0 {
				wrong++
			}
		}
	}
	if wrong > 0 {
		t.Errorf("picture %s: %d dots on the display are not what was drawn", name, wrong)
	}
}

// The pictures that the guest asks for, by name.
func pictures() map[string]view {
	all := map[string]view{}
	for _, name := range []string{"idle", "stored", "unknown"} {
		v := scenes("zh-TW")[name]
		v.name, v.code = "lobby", ""
		all[name] = v
	}
	dimmed := all["idle"]
	dimmed.now = dimmed.now.Add(2 * time.Minute)
	all["dimmed"], all["off"] = dimmed, dimmed
	pin := all["idle"]
	pin.pad = &pad{words: pin.words}
	all["pin"] = pin
	return all
}

func TestKernelShowsTheDoorsScreenAndFeelsTheFinger(t *testing.T) {
	guest := devicetest.Machine{Modules: []string{"virtio-pci", "virtio-gpu", "evdev", "uinput"}, Screen: "800x480"}
	guest.Picture = func(t *testing.T, name string, data []byte) { compare(t, name, data, 800, 480, 8) }
	devicetest.InKernel(t, guest, func(t *testing.T) {
		var displays []*watched
		var mu sync.Mutex
		var took []time.Duration
		var said bytes.Buffer
		house := &fakeHouse{}
		all := pictures()
		now := all["idle"].now
		night := now
		f, err := New(Config{Name: "lobby", Language: "zh-TW", Location: taipei, Backend: house, Status: func() Status { return all["idle"].status },
			Logger: slog.New(slog.NewTextHandler(&said, nil)),
			Drawn:  func(d time.Duration) { mu.Lock(); took = append(took, d); mu.Unlock() }})
		if err != nil {
			t.Fatal(err)
		}
		f.c.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return night }
		f.c.out = func() (output, error) {
			o, err := openDisplay("", func(err error) { t.Error(err) })
			if err != nil {
				return nil, err
			}
			w := &watched{output: o}
			mu.Lock()
			displays = append(displays, w)
			mu.Unlock()
			return w, nil
		}
		display := func(n int) *watched {
			t.Helper()
			for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(10 * time.Millisecond) {
				mu.Lock()
				there := len(displays) > n
				mu.Unlock()
				if there {
					return displays[n]
				}
			}
			t.Fatalf("no display\n%s", &said)
			return nil
		}
		settle := func() { time.Sleep(1500 * time.Millisecond) } // of the guest's time
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { f.Run(ctx) })
		t.Cleanup(func() { stop(); running.Wait() })

		began := time.Now()
		f.Show(all["idle"].screen)
		first := display(0)
		for len(first.take()) == 0 {
			time.Sleep(time.Millisecond)
		}
		t.Logf("first picture after %v", time.Since(began).Round(time.Millisecond))
		settle()
		devicetest.TakePicture(t, "idle")
		f.Show(all["stored"].screen)
		settle()
		devicetest.TakePicture(t, "stored")
		f.Show(all["unknown"].screen)
		settle()
		devicetest.TakePicture(t, "unknown")

		// While nothing changes, nothing is sent; while the seconds do, they are.
		f.Show(all["idle"].screen)
		settle()
		first.take()
		settle()
		settle()
		if sent := first.take(); len(sent) > 0 {
			t.Errorf("nothing has changed, and %v was sent", sent)
		}
		mu.Lock()
		night = now.Add(time.Second)
		mu.Unlock()
		settle()
		sent := first.take()
		if len(sent) != 1 || sent[0].Dx()*sent[0].Dy() > 800*480/20 {
			t.Errorf("a second has passed, and %v was sent", sent)
		}
		mu.Lock()
		night = now
		mu.Unlock()

		// A hundred people, one after another.
		mu.Lock()
		took = nil
		mu.Unlock()
		for i := range 100 {
			s := all["stored"].screen
			r := *s.Result
			r.Kind = kinds[i%4]
			s.Result = &r
			f.Show(s)
			time.Sleep(300 * time.Millisecond)
		}
		mu.Lock()
		slices.Sort(took)
		t.Logf("from Show to the display, in the guest's time: median %v, p95 %v, worst %v of %d", took[len(took)/2], took[len(took)*95/100], took[len(took)-1], len(took))
		if len(took) != 100 {
			t.Errorf("%d answers were drawn", len(took))
		}
		mu.Unlock()

		// A finger, on both kinds of touch screens, one after another.
		for _, slots := range []bool{true, false} {
			f.Show(all["idle"].screen)
			touch := devicetest.NewTouchScreen(t, 4095, 4095, slots)
			time.Sleep(2 * lookFor)
			at := targetOf(t, all["idle"], "pin", 800, 480)
			touch.Press(int32(at.X*4095/800), int32(at.Y*4095/480))
			time.Sleep(100 * time.Millisecond)
			touch.Lift()
			settle()
			devicetest.TakePicture(t, "pin")
			at = targetOf(t, all["pin"], "cancel", 800, 480)
			touch.Press(int32(at.X*4095/800), int32(at.Y*4095/480))
			touch.Lift()
			settle()
			devicetest.TakePicture(t, "idle")
			touch.Unplug()
			time.Sleep(time.Second)
		}

		// Pulled out and put in again.
		ids, _ := filepath.Glob("/sys/bus/virtio/drivers/virtio_gpu/virtio*")
		if len(ids) != 1 {
			t.Fatalf("displays: %v", ids)
		}
		id := filepath.Base(ids[0])
		plug := func(what string) {
			t.Helper()
			if err := os.WriteFile("/sys/bus/virtio/drivers/virtio_gpu/"+what, []byte(id), 0o200); err != nil {
				t.Fatal(err)
			}
		}
		plug("unbind")
		time.Sleep(time.Minute)
		plug("bind")
		display(1)
		settle()
		devicetest.TakePicture(t, "idle")
		if n := strings.Count(said.String(), "no screen; the clock goes on"); n != 2 { // it went, and there is none
			t.Errorf("said %d times:\n%s", n, &said)
		}
	})
}

// targetOf is the middle of what can be touched.
func targetOf(t *testing.T, v view, id string, w, h int) image.Point {
	t.Helper()
	for _, x := range worker(t).layout(v, w, h).targets {
		if x.id == id {
			return image.Pt((x.r.Min.X+x.r.Max.X)/2, (x.r.Min.Y+x.r.Max.Y)/2)
		}
	}
	t.Fatalf("there is no %s", id)
	return image.Point{}
}

// fakeHouse answers fingers.
type fakeHouse struct {
	mu      sync.Mutex
	heard   []string
	refused bool
	late    bool
	wait    time.Duration
	err     error
}

func (h *fakeHouse) note(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, s)
}

func (h *fakeHouse) ChooseKind(kind string) error { h.note("kind " + kind); return h.err }

func (h *fakeHouse) PIN(_ context.Context, number, pin string) (bool, time.Duration, error) {
	h.note("pin " + number + " " + pin)
	return h.refused, h.wait, h.err
}

func (h *fakeHouse) Correct(_ context.Context, id, kind string) (bool, error) {
	h.note("correct " + id + " " + kind)
	return h.late, h.err
}

var _ ui.Display = (*Face)(nil)
