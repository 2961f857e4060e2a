package screen

import (
	"errors"
	"fmt"
	"image"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The structures of drm/drm_mode.h. Each is laid out so that numbers of 64 bits stand at
// multiples of eight, and is a multiple of eight long where it holds any: Go and C agree
// on 32-bit ARM too, which a test counts.
type (
	cardResources struct {
		fbs, crtcs, connectors, encoders     uint64 // where the lists are
		nFbs, nCrtcs, nConnectors, nEncoders uint32
		minW, maxW, minH, maxH               uint32
	}
	modeInfo struct {
		clock                                         uint32
		hdisplay, hsyncStart, hsyncEnd, htotal, hskew uint16
		vdisplay, vsyncStart, vsyncEnd, vtotal, vscan uint16
		vrefresh, flags, kind                         uint32
		name                                          [32]byte
	}
	getConnector struct {
		encoders, modes, props, values               uint64
		nModes, nProps, nEncoders                    uint32
		encoder, id, kind, kindID                    uint32
		connection, widthMM, heightMM, subpixel, pad uint32
	}
	getEncoder struct{ id, kind, crtc, possibleCrtcs, possibleClones uint32 }
	createDumb struct {
		height, width, bpp, flags, handle, pitch uint32
		size                                     uint64
	}
	addFramebuffer struct{ id, width, height, pitch, bpp, depth, handle uint32 }
	mapDumb        struct {
		handle, pad uint32
		offset      uint64
	}
	setCrtc struct {
		connectors                                            uint64
		nConnectors, id, framebuffer, x, y, gammaSize, isMode uint32
		mode                                                  modeInfo
	}
	dirtyFramebuffer struct {
		id, flags, colour, nClips uint32
		clips                     uint64
	}
	clipRect struct{ x1, y1, x2, y2 uint16 }
)

// Numbers of the requests, from drm/drm.h.
const (
	modeGetResources = 0xA0
	modeSetCrtc      = 0xA2
	modeGetEncoder   = 0xA6
	modeGetConnector = 0xA7
	modeAddFB        = 0xAE
	modeDirtyFB      = 0xB1
	modeCreateDumb   = 0xB2
	modeMapDumb      = 0xB3

	connected     = 1
	modePreferred = 1 << 3
)

// The largest picture that is drawn: more is for films.
const (
	mostWide = 1920
	mostHigh = 1200
)

// card is a display on a DRM card. Everything that the kernel is given the address of lies
// in it or in a slice of it, and it never moves.
type card struct {
	file    *os.File
	path    string
	status  string // file that says whether the display is there
	on      setCrtc
	off     setCrtc
	dirty   dirtyFramebuffer
	clip    []clipRect
	conn    []uint32
	panel   bool // its connector is no socket
	quiet   bool // the driver does not want to be told of changes
	memory  []byte
	picture frame
}

func (c *card) ioctl(nr, size uintptr, p unsafe.Pointer) error {
	return ioctl(c.file, 3<<30|size<<16|'d'<<8|nr, p)
}

func ioctl(f *os.File, request uintptr, p unsafe.Pointer) (err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		for {
			_, _, e := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(p))
			if e == unix.EINTR || e == unix.EAGAIN {
				continue
			}
			if e != 0 {
				err = e
			}
			return
		}
	})
	return errors.Join(cerr, err)
}

// openDisplay opens a display by its path, or looks for one. alarm is told what keeps it
// from being as it should.
func openDisplay(path string, alarm func(error)) (output, error) {
	switch {
	case strings.HasPrefix(path, "/dev/fb"):
		return openFramebuffer(path, vtConsoles, alarm)
	case path != "":
		return openCard(path)
	}
	cards, _ := filepath.Glob("/dev/dri/card*")
	var bad []error
	for _, p := range cards {
		c, err := openCard(p)
		if err == nil {
			return c, nil
		}
		bad = append(bad, err)
	}
	fb, err := openFramebuffer("/dev/fb0", vtConsoles, alarm)
	switch {
	case err == nil:
		return fb, nil
	case !errors.Is(err, fs.ErrNotExist):
		bad = append(bad, err)
	case len(cards) == 0:
		return nil, errors.New("this machine has no display: there is neither /dev/dri/card0 nor /dev/fb0; on a Pi, dtoverlay=vc4-kms-v3d belongs in /boot/firmware/config.txt")
	}
	return nil, errors.Join(bad...)
}

// openCard puts a dumb buffer on the first connected display of a card.
func openCard(path string) (_ output, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; the program's user must be in the group video", err)
		}
		return nil, err
	}
	c := &card{file: file, path: path, clip: make([]clipRect, 1), conn: make([]uint32, 1)}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	connector, encoders, crtcs, err := c.findConnector()
	if err != nil {
		return nil, err
	}
	mode := connector.mode
	crtc, err := c.findCrtc(connector.getConnector, encoders, crtcs)
	if err != nil {
		return nil, err
	}
	d := createDumb{height: uint32(mode.vdisplay), width: uint32(mode.hdisplay), bpp: 32}
	if err := c.ioctl(modeCreateDumb, unsafe.Sizeof(d), unsafe.Pointer(&d)); err != nil {
		return nil, fmt.Errorf("%s: memory for %dx%d: %w", path, d.width, d.height, err)
	}
	fb := addFramebuffer{width: d.width, height: d.height, pitch: d.pitch, bpp: 32, depth: 24, handle: d.handle}
	if err := c.ioctl(modeAddFB, unsafe.Sizeof(fb), unsafe.Pointer(&fb)); err != nil {
		return nil, fmt.Errorf("%s: make a picture of it: %w", path, err)
	}
	m := mapDumb{handle: d.handle}
	if err := c.ioctl(modeMapDumb, unsafe.Sizeof(m), unsafe.Pointer(&m)); err != nil {
		return nil, fmt.Errorf("%s: reach the memory: %w", path, err)
	}
	if c.memory, err = unix.Mmap(int(file.Fd()), int64(m.offset), int(d.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("%s: reach the memory: %w", path, err)
	}
	c.picture = frame{w: int(d.width), h: int(d.height), pitch: int(d.pitch) / 4, wide: unsafe.Slice((*uint32)(unsafe.Pointer(&c.memory[0])), len(c.memory)/4)}
	c.conn[0] = connector.id
	c.on = setCrtc{connectors: uint64(uintptr(unsafe.Pointer(&c.conn[0]))), nConnectors: 1, id: crtc, framebuffer: fb.id, isMode: 1, mode: mode}
	c.off = setCrtc{id: crtc}
	c.dirty = dirtyFramebuffer{id: fb.id, nClips: 1, clips: uint64(uintptr(unsafe.Pointer(&c.clip[0])))}
	clear(c.memory)
	if err := c.blank(false); err != nil {
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w; another program has the display, such as a desktop: stop it (systemctl set-default multi-user.target)", err)
		}
		return nil, fmt.Errorf("%s: switch the display on: %w", path, err)
	}
	c.panel = isPanel(connector.kind)
	c.status = connectorStatus("/sys/class/drm", filepath.Base(path), connector.getConnector)
	return c, nil
}

// found is a connector and the mode that is taken.
type found struct {
	getConnector
	mode modeInfo
}

// findConnector returns the first connector with a display.
func (c *card) findConnector() (f found, encoders, crtcs []uint32, err error) {
	var res cardResources
	if err := c.ioctl(modeGetResources, unsafe.Sizeof(res), unsafe.Pointer(&res)); err != nil {
		return f, nil, nil, fmt.Errorf("%s has no displays: %w", c.path, err)
	}
	crtcs, conns := make([]uint32, res.nCrtcs+1), make([]uint32, res.nConnectors+1) // never empty: the first has an address
	r := cardResources{nCrtcs: res.nCrtcs, nConnectors: res.nConnectors, crtcs: address(crtcs), connectors: address(conns)}
	err = c.ioctl(modeGetResources, unsafe.Sizeof(r), unsafe.Pointer(&r))
	runtime.KeepAlive(crtcs)
	if err != nil {
		return f, nil, nil, fmt.Errorf("%s: its displays: %w", c.path, err)
	}
	crtcs = crtcs[:min(r.nCrtcs, res.nCrtcs)]
	for _, id := range conns[:min(r.nConnectors, res.nConnectors)] {
		g := getConnector{id: id}
		if err := c.ioctl(modeGetConnector, unsafe.Sizeof(g), unsafe.Pointer(&g)); err != nil || g.connection != connected || g.nModes == 0 {
			continue // none is there, or it has just gone
		}
		modes, encoders := make([]modeInfo, g.nModes), make([]uint32, g.nEncoders+1)
		q := getConnector{id: id, nModes: g.nModes, nEncoders: g.nEncoders, modes: address(modes), encoders: address(encoders)}
		err := c.ioctl(modeGetConnector, unsafe.Sizeof(q), unsafe.Pointer(&q))
		runtime.KeepAlive(modes)
		runtime.KeepAlive(encoders)
		if err != nil || q.nModes == 0 {
			continue
		}
		return found{q, bestMode(modes[:min(q.nModes, g.nModes)])}, encoders[:min(q.nEncoders, g.nEncoders)], crtcs, nil
	}
	return f, nil, nil, fmt.Errorf("%s: no display is connected; check its cable and its supply", c.path)
}

// addressed is the last list that address was asked for. What is kept here is never on a
// stack, where the compiler puts short lists, and which moves when it grows.
var addressed unsafe.Pointer

// address is where a list lies, for good.
func address[T any](list []T) uint64 {
	p := unsafe.Pointer(unsafe.SliceData(list))
	atomic.StorePointer(&addressed, p)
	return uint64(uintptr(p))
}

// bestMode is the one that the display likes best, unless that is very large.
func bestMode(modes []modeInfo) modeInfo {
	fits := func(m modeInfo) bool {
		return int(m.hdisplay) <= mostWide && int(m.vdisplay) <= mostHigh || int(m.hdisplay) <= mostHigh && int(m.vdisplay) <= mostWide
	}
	if i := slices.IndexFunc(modes, func(m modeInfo) bool { return m.kind&modePreferred != 0 && fits(m) }); i >= 0 {
		return modes[i]
	}
	best := modes[0]
	for _, m := range modes {
		if fits(m) && (!fits(best) || int(m.hdisplay)*int(m.vdisplay) > int(best.hdisplay)*int(best.vdisplay)) {
			best = m
		}
	}
	return best
}

// findCrtc returns what can feed the connector: what feeds it now, else the first.
func (c *card) findCrtc(g getConnector, encoders, crtcs []uint32) (uint32, error) {
	if g.encoder != 0 {
		encoders = append([]uint32{g.encoder}, encoders...)
	}
	for _, id := range encoders {
		e := getEncoder{id: id}
		if err := c.ioctl(modeGetEncoder, unsafe.Sizeof(e), unsafe.Pointer(&e)); err != nil {
			continue
		}
		if e.crtc != 0 {
			return e.crtc, nil
		}
		for i, crtc := range crtcs {
			if i < 32 && e.possibleCrtcs>>i&1 != 0 {
				return crtc, nil
			}
		}
	}
	return 0, fmt.Errorf("%s: nothing is free to feed its display", c.path)
}

// connectorKinds are the names of the kernel's drm_connector_enum_list.
var connectorKinds = []string{"Unknown", "VGA", "DVI-I", "DVI-D", "DVI-A", "Composite", "SVIDEO", "LVDS", "Component", "DIN", "DP", "HDMI-A", "HDMI-B", "TV", "eDP", "Virtual", "DSI", "DPI", "Writeback", "SPI", "USB"}

// isPanel reports whether a kind of connector is for panels with a lamp that the board sets.
func isPanel(kind uint32) bool {
	return int(kind) < len(connectorKinds) && slices.Contains([]string{"LVDS", "eDP", "DSI", "DPI"}, connectorKinds[kind])
}

// connectorStatus is the file that says whether a display is there, without asking it.
func connectorStatus(sys, card string, g getConnector) string {
	if int(g.kind) >= len(connectorKinds) {
		return ""
	}
	return filepath.Join(sys, fmt.Sprintf("%s-%s-%d", card, connectorKinds[g.kind], g.kindID), "status")
}

func (c *card) frame() *frame { return &c.picture }
func (c *card) name() string  { return c.path }
func (c *card) own() bool     { return c.panel }

func (c *card) flush(r image.Rectangle) error {
	if c.quiet || r.Empty() {
		return nil
	}
	c.clip[0] = clipRect{uint16(r.Min.X), uint16(r.Min.Y), uint16(r.Max.X), uint16(r.Max.Y)}
	err := c.ioctl(modeDirtyFB, unsafe.Sizeof(c.dirty), unsafe.Pointer(&c.dirty))
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
		c.quiet = true // it shows the memory itself
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: show what was drawn: %w", c.path, err)
	}
	return nil
}

func (c *card) blank(off bool) error {
	s := &c.on
	if off {
		s = &c.off
	}
	if err := c.ioctl(modeSetCrtc, unsafe.Sizeof(*s), unsafe.Pointer(s)); err != nil {
		return fmt.Errorf("switch the display: %w", err)
	}
	return nil
}

func (c *card) there() error {
	if c.status == "" {
		return nil
	}
	b, err := os.ReadFile(c.status)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(c.path); err != nil {
			return fmt.Errorf("%s is gone; check its plug", c.path)
		}
		return nil // a kernel that names it otherwise
	case err == nil && strings.TrimSpace(string(b)) == "disconnected":
		return fmt.Errorf("%s: the display was unplugged; check its cable and its supply", c.path)
	}
	return nil
}

func (c *card) Close() error {
	var err error
	if c.memory != nil {
		err = unix.Munmap(c.memory)
	}
	return errors.Join(err, c.file.Close())
}
