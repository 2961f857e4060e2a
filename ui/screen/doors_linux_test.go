package screen

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"
)

// The kernel's structures have these sizes and places, on every machine; include/uapi/drm.
func TestStructuresAreLaidOutAsTheKernelsAre(t *testing.T) {
	fix, line := uintptr(80), uintptr(48) // with words of 64 bits
	if wordSize == 4 {
		fix, line = 68, 44
	}
	for what, v := range map[string][2]uintptr{
		"drm_mode_card_res":      {unsafe.Sizeof(cardResources{}), 64},
		"drm_mode_modeinfo":      {unsafe.Sizeof(modeInfo{}), 68},
		"drm_mode_get_connector": {unsafe.Sizeof(getConnector{}), 80},
		"drm_mode_get_encoder":   {unsafe.Sizeof(getEncoder{}), 20},
		"drm_mode_create_dumb":   {unsafe.Sizeof(createDumb{}), 32},
		"drm_mode_fb_cmd":        {unsafe.Sizeof(addFramebuffer{}), 28},
		"drm_mode_map_dumb":      {unsafe.Sizeof(mapDumb{}), 16},
		"drm_mode_crtc":          {unsafe.Sizeof(setCrtc{}), 104},
		"drm_mode_fb_dirty_cmd":  {unsafe.Sizeof(dirtyFramebuffer{}), 24},
		"drm_clip_rect":          {unsafe.Sizeof(clipRect{}), 8},
		"fb_var_screeninfo":      {unsafe.Sizeof(fbVar{}), 160},
		"fb_fix_screeninfo":      {unsafe.Sizeof(fbFix{}), fix},
		"size in create_dumb":    {unsafe.Offsetof(createDumb{}.size), 24},
		"offset in map_dumb":     {unsafe.Offsetof(mapDumb{}.offset), 8},
		"clips in dirty_cmd":     {unsafe.Offsetof(dirtyFramebuffer{}.clips), 16},
		"mode in crtc":           {unsafe.Offsetof(setCrtc{}.mode), 36},
		"line_length of a frame": {unsafe.Offsetof(fbFix{}.line), line},
	} {
		if v[0] != v[1] {
			t.Errorf("%s is %d, the kernel's is %d", what, v[0], v[1])
		}
	}
}

func TestOnlyTouchScreensAreTaken(t *testing.T) {
	set := func(codes ...int) (b bitmap) {
		bits := 8 * wordSize
		b = make(bitmap, 1024/bits)
		for _, c := range codes {
			b[c/bits] |= 1 << (c % bits)
		}
		return b
	}
	for name, tc := range map[string]struct {
		abs, key, properties bitmap
		slots, ok            bool
	}{
		"capacitive":            {set(absX, absY, mtSlot, mtX, mtY, mtTracking), set(btnTouch), set(1), true, true},
		"resistive, one finger": {set(absX, absY), set(btnTouch), nil, false, true},
		"touchpad":              {set(absX, absY, mtSlot, mtX, mtY, mtTracking), set(btnTouch, 0x110), set(0, 2), false, false},
		"joystick":              {set(absX, absY, 2, 3), set(0x120), nil, false, false},
		"keyboard":              {nil, set(1, 2, 3, 28), nil, false, false},
	} {
		if slots, ok := isTouchScreen(tc.abs, tc.key, tc.properties); slots != tc.slots || ok != tc.ok {
			t.Errorf("%s: slots %v, touch screen %v", name, slots, ok)
		}
	}
	if b := parseBitmap("8000000000000001 0 3\n"); wordSize == 8 && (!b.has(0) || !b.has(1) || b.has(64) || !b.has(128) || !b.has(191) || b.has(192)) {
		t.Errorf("%x", b)
	}
	if parseBitmap("card") != nil {
		t.Error("what is no bitmap is one")
	}
	touchKey := "400" + strings.Repeat(" 0", btnTouch/(8*wordSize)) // BTN_TOUCH
	dir := t.TempDir()
	for event, words := range map[string]string{"event0": "0", "event3": "3", "mouse0": "3"} {
		at := filepath.Join(dir, event, "device", "capabilities")
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"abs": words, "key": touchKey} {
			if err := os.WriteFile(filepath.Join(at, file), []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	var opened []string
	open := func(path string, _ bool) (touchDevice, error) {
		opened = append(opened, path)
		return finger{}, nil
	}
	for range 2 {
		if _, err := searchTouch(dir, "/dev/input", map[string]bool{}, open); err != nil {
			t.Error(err)
		}
	}
	if _, err := searchTouch(dir, "/dev/input", map[string]bool{"/dev/input/event3": true}, open); err != nil {
		t.Error(err)
	}
	if got := strings.Join(opened, " "); got != "/dev/input/event3 /dev/input/event3" {
		t.Errorf("opened %s", got)
	}
}

func TestThePreferredModeIsTakenUnlessItIsForFilms(t *testing.T) {
	mode := func(w, h uint16, preferred bool) (m modeInfo) {
		if m.hdisplay, m.vdisplay = w, h; preferred {
			m.kind = modePreferred
		}
		return m
	}
	for want, modes := range map[[2]uint16][]modeInfo{
		{800, 480}:   {mode(1920, 1080, false), mode(800, 480, true)},
		{1920, 1080}: {mode(3840, 2160, true), mode(1280, 720, false), mode(1920, 1080, false)},
		{720, 1280}:  {mode(720, 1280, true)},
		{4096, 2160}: {mode(4096, 2160, true)},
	} {
		if m := bestMode(modes); m.hdisplay != want[0] || m.vdisplay != want[1] {
			t.Errorf("%dx%d of %v", m.hdisplay, m.vdisplay, want)
		}
	}
}

func TestFrameBuffersOfAnUnknownOrderAreRefused(t *testing.T) {
	rgb32 := fbVar{xres: 800, yres: 480, bits: 32, red: fbField{16, 8, 0}, green: fbField{8, 8, 0}, blue: fbField{0, 8, 0}}
	rgb16 := fbVar{xres: 800, yres: 480, bits: 16, red: fbField{11, 5, 0}, green: fbField{5, 6, 0}, blue: fbField{0, 5, 0}}
	if f, err := rgb32.picture(3328); err != nil || f.pitch != 832 || f.w != 800 || f.h != 480 {
		t.Errorf("%+v %v", f, err)
	}
	if f, err := rgb16.picture(1600); err != nil || f.pitch != 800 {
		t.Errorf("%+v %v", f, err)
	}
	swapped, odd, deep, narrow, none := rgb32, rgb32, rgb32, rgb32, rgb32
	swapped.red, swapped.blue = swapped.blue, swapped.red
	if f, err := swapped.picture(3200); err != nil || !f.blueFirst {
		t.Errorf("%+v %v", f, err)
	}
	odd.red.offset = 24
	deep.bits = 24
	none.xres = 0
	for i, v := range []fbVar{odd, deep, none} {
		if _, err := v.picture(3328); err == nil {
			t.Errorf("number %d is taken", i)
		}
	}
	if _, err := narrow.picture(800); err == nil {
		t.Error("lines shorter than the picture are taken")
	}
}

func TestTheConsoleIsTakenOffFrameBuffersAlone(t *testing.T) {
	dir := t.TempDir()
	consoles := map[string][2]string{"vtcon0": {"(S) dummy device", "0"}, "vtcon1": {"(M) frame buffer device", "1"}, "vtcon2": {"(M) frame buffer device", "0"}, "vtcon3": {"(S) VGA+", "1"}}
	for name, v := range consoles {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"name": v[0], "bind": v[1]} {
			if err := os.WriteFile(filepath.Join(dir, name, file), []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	gave, err := silence(dir)
	if err != nil || len(gave) != 1 || gave[0] != filepath.Join(dir, "vtcon1", "bind") {
		t.Errorf("%v %v", gave, err)
	}
	for name, v := range consoles {
		want := v[1]
		if name == "vtcon1" {
			want = "0"
		}
		if b, err := os.ReadFile(filepath.Join(dir, name, "bind")); err != nil || strings.TrimSpace(string(b)) != want {
			t.Errorf("%s: %q %v", name, b, err)
		}
	}
	if gave, err := silence(filepath.Join(dir, "none")); err != nil || gave != nil {
		t.Errorf("%v %v", gave, err)
	}
}

func TestOnlyPanelsHaveALampOfTheBoards(t *testing.T) {
	for kind, name := range connectorKinds {
		if want := name == "DSI" || name == "DPI" || name == "eDP" || name == "LVDS"; isPanel(uint32(kind)) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	if isPanel(99) {
		t.Error("a kind of next year's is a panel")
	}
}

func TestAnUnpluggedDisplayIsSeenWithoutAskingIt(t *testing.T) {
	dir := t.TempDir()
	path := connectorStatus(dir, "card1", getConnector{kind: 11, kindID: 2})
	if path != filepath.Join(dir, "card1-HDMI-A-2", "status") {
		t.Fatal(path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	c := &card{path: dir, status: path}
	if c.there() != nil { // a kernel that has no such file
		t.Error("gone without a word")
	}
	for text, gone := range map[string]bool{"connected\n": false, "unknown\n": false, "disconnected\n": true} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if (c.there() != nil) != gone {
			t.Errorf("%q: %v", text, c.there())
		}
	}
}

func FuzzTouchRecords(f *testing.F) {
	record := func(word int, typ, code uint16, value int32) []byte {
		b := make([]byte, 2*word)
		b = binary.LittleEndian.AppendUint16(b, typ)
		b = binary.LittleEndian.AppendUint16(b, code)
		return binary.LittleEndian.AppendUint32(b, uint32(value))
	}
	f.Add(true, append(record(8, evAbs, mtTracking, 3), record(8, evSyn, synReport, 0)...))
	f.Add(false, append(record(4, evKey, btnTouch, 1), record(4, evSyn, synDropped, 0)...))
	f.Fuzz(func(t *testing.T, slots bool, b []byte) {
		for _, word := range []int{4, 8} {
			p := fingers{slots: slots, x: span{-5, 1 << 30}, y: span{-1 << 31, 1<<31 - 1}}
			down := false
			for _, c := range p.records(b, word) {
				if c.x < 0 || c.x >= 1 || c.y < 0 || c.y >= 1 {
					t.Fatalf("%+v", c)
				}
				if !c.down && !c.lost && !down {
					t.Fatal("lifted without being down")
				}
				down = c.down
			}
		}
	})
}
