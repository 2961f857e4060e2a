# punchclock. `make` prints what there is.
#
# Two commands do all set-up on a Debian machine with Go: make run, make test.

SHELL    := /bin/bash -o pipefail
GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X main.version=$(VERSION)
export CGO_ENABLED := 0
# Calls are HTTP/1.1 on purpose, see sync/drain; without its HTTP/2 the program is half a
# megabyte smaller.
# Functions are put into their callers only where that makes the clock faster: what is
# computed, drawn and stored, and of TLS the arithmetic and the reading of certificates.
# Everywhere else it would make the program a tenth larger.
INLINE   := runtime/... internal/... sync/... crypto/internal/... crypto/x509 hash/... math math/bits compress/... image/... golang.org/x/crypto/... golang.org/x/image/... go.etcd.io/... punchclock/queue punchclock/queue/punch
GOBUILD  := $(GO) build -trimpath -buildvcs=false -tags nethttpomithttp2 -gcflags=all=-l $(patsubst %,-gcflags=%=,$(INLINE)) -ldflags '$(LDFLAGS)'
TARGETS  := linux/arm/6 linux/arm/7 linux/arm64 linux/amd64
# What make test tests with the race detector.
PKGS     ?= ./...
# What a stripped binary for a board may weigh, in bytes: 16 MiB.
MOST     := 16777216

.PHONY: help build run test test-ui bench squeeze fmt lint cross test-arm durability-kill durability-states durability-faults durability-drain durability-power power-kernel test-kernel guest-kernel guest-pi deps deb repo test-deb debian-base debian-arm image image-twice bundle test-image test-update image-deps

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## build bin/punchclock and bin/punchsim
	$(GOBUILD) -o bin/ ./cmd/punchclock ./cmd/punchsim

run: build ## the whole product on this machine: sandbox clouds, a simulated reader, the clock, its page
	bin/punchsim demo --clock bin/punchclock --dir .run

test: deps ## all that a change must pass
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted; run: make fmt"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(MAKE) --no-print-directory build cross
	@echo "go test -race ./..., all it says in bin/test.log"
	@CGO_ENABLED=1 $(GO) test -race -v -timeout 25m $(PKGS) > bin/test.log 2>&1 || { grep -vE '^ *(=== |--- PASS)' bin/test.log | tail -n 400; exit 1; }
	@grep -E '^ok' bin/test.log; echo "NOT RUN here, and why:"; awk '/^=== (RUN|NAME|CONT) /{n=$$3} /^ +[A-Za-z0-9_]+\.go:[0-9]+: /{sub(/^ +/,""); why[n]=$$0} /^ *--- SKIP: /{print $$3 ": " why[$$3]; some=1} END{if(!some) print "nothing"}' bin/test.log
	$(MAKE) --no-print-directory test-arm
	@if $(MAKE) --no-print-directory power-kernel; then $(MAKE) --no-print-directory durability-power N=5; \
	else echo "NOT RUN: 5 power cuts in a virtual machine, because its kernel could not be fetched, see above"; fi
	@if $(MAKE) --no-print-directory guest-kernel; then $(MAKE) --no-print-directory test-kernel FORM=short; \
	else echo "NOT RUN: the tests against the kernel's drivers, because a kernel for them could not be made, see above"; fi
	@if $(MAKE) --no-print-directory debian-base; then $(MAKE) --no-print-directory test-deb FORM=short; \
	else echo "NOT RUN: installing, updating and purging the packages, because a Debian for it could not be made, see above"; fi
	@test -z "$$(git status --porcelain)" || { echo "the tests left files behind:"; git status --short; exit 1; }

test-ui: deps ## every screen in every language and size in a real browser, with a picture of each in bin/screens
	@mkdir -p bin/screens
	PUNCHCLOCK_SHOTS=$(CURDIR)/bin/screens PUNCHCLOCK_DAY=1 $(GO) test -count=1 -timeout 30m -run Browser ./ui/web
	PUNCHCLOCK_DAY=1 $(GO) test -count=1 -timeout 10m -v -run 'OverADay' ./ui/screen
	PUNCHCLOCK_SHOTS=$(CURDIR)/bin/screens $(GO) test -count=1 -timeout 10m -run 'ToLookAt' ./ui/screen
	$(GO) test -count=1 -timeout 10m -run 'PersonAtTheDoor' ./cmd/punchclock
	@ls bin/screens | wc -l | xargs -I{} echo "{} pictures in bin/screens"

test-arm: deps ## the parts that touch bytes, as 32-bit ARM and 64-bit ARM code under emulation
	@echo "NOT RUN under emulation: the kill, crash and fault tests, for an emulated program cannot start another; the others in their short form. make test runs all of them on this machine itself"
	GOARCH=arm GOARM=6 $(GO) test -short -skip 'Kill|Crash|Fault' -timeout 10m -exec qemu-arm ./queue/... ./device ./device/evdev ./device/keypad ./device/mfrc522 ./device/pn532 ./device/serialport ./device/wiegand ./device/clock ./sync/token ./ui/text
	GOARCH=arm GOARM=6 $(GO) test -short -run 'Structures|Golden|Turned|Sixteen|Fingers' -timeout 10m -exec qemu-arm ./ui/screen
	GOARCH=arm64 $(GO) test -short -skip 'Kill|Crash|Fault' -timeout 10m -exec qemu-aarch64 ./queue/... ./device ./device/evdev ./device/mfrc522 ./device/pn532 ./device/serialport ./sync/token

cross: ## build for every board, stripped, and weigh
	@for t in $(TARGETS); do IFS=/ read -r os arch arm <<< "$$t"; dir=bin/$${t//\//-}; \
	  GOOS=$$os GOARCH=$$arch GOARM=$$arm $(GOBUILD) -o $$dir/ ./cmd/punchclock ./cmd/punchsim || exit 1; \
	  n=$$(stat -c %s $$dir/punchclock); printf '%-14s %9d bytes\n' "$$t" "$$n"; \
	  [ $$arch = amd64 ] || [ "$$n" -le $(MOST) ] || { echo "larger than $(MOST) bytes; has make squeeze been run?"; exit 1; }; done

BENCH ?= full
bench: build ## print the figures beside what is wanted, with slow cards of our own making; as root. BENCH=quick: in a minute
	@kernel=; if $(MAKE) --no-print-directory power-kernel; then kernel=$(POWER_CACHE)/kernel; \
	else echo "NOT in a virtual machine: the slow cards, because its kernel could not be fetched, see above"; fi; \
	POWER_KERNEL=$$kernel BENCH=$(BENCH) $(GO) test -count=1 -timeout 90m -v -run '^TestFigures$$' ./queue
	$(GO) test -run '^$$' -bench $(if $(filter quick,$(BENCH)),Tap,.) -benchtime 1x -timeout 30m ./cmd/punchclock

N ?= 1000
durability-kill: ## kill -9 a writing outbox N times: nothing acknowledged may be missing
	KILLS=$(N) $(GO) test -count=1 -timeout 60m -v -run 'Kill' ./queue

STATES ?= 5000
durability-states: deps ## open STATES of the states that a power cut can leave on the medium: nothing acknowledged may be missing
	CRASH_STATES=$(STATES) $(GO) test -count=1 -timeout 60m -v -run 'Crash' ./queue

DAYS ?= 90
durability-drain: N = 500
durability-drain: ## kill -9 a delivering clock N times (500), then deliver DAYS (90) of 1,000 punches while people tap
	DRAIN_KILLS=$(N) DRAIN_DAYS=$(DAYS) $(GO) test -count=1 -timeout 90m -v -run 'KillsDuringADrain|ThreeMonthsOffline' ./cmd/punchclock

durability-power: N = 200
durability-power: power-kernel ## cut the power of a punching clock N times (200), in a virtual machine: nothing acknowledged may be missing
	POWER=$(N) POWER_KERNEL=$(POWER_CACHE)/kernel $(GO) test -count=1 -timeout 60m -v -run 'PowerCut' ./queue

# Debian's smallest kernel, unpacked into a cache and never installed. Remove the
# folder to have a newer one fetched.
POWER_CACHE := $(or $(XDG_CACHE_HOME),$(addsuffix /.cache,$(HOME)),/var/tmp)/punchclock
power-kernel: deps
	@set -e; [ ! -d $(POWER_CACHE)/kernel ] || exit 0; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; $$sudo apt-get update -qq; \
	p=$$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -1); \
	[ -n "$$p" ] || { echo "there is no package linux-image-cloud-amd64 here"; exit 1; }; \
	mkdir -p $(POWER_CACHE); t=$$(mktemp -d $(POWER_CACHE)/new.XXXXXX); trap "rm -rf $$t" EXIT; cd $$t; mkdir kernel; \
	echo "fetching $$p into $(POWER_CACHE)"; apt-get -qq -o APT::Sandbox::User=root download "$$p"; \
	dpkg-deb --fsys-tarfile *.deb | tar x -C kernel --wildcards './boot/vmlinuz-*' ./lib/modules; \
	mv kernel $(POWER_CACHE)/

FORM ?= full
test-kernel: guest-kernel ## readers and lamps against the kernel's own drivers, in virtual machines. FORM=short: in a minute, without the Raspberry Pi
	@pi=; if [ $(FORM) = full ]; then if $(MAKE) --no-print-directory guest-pi; then pi=$(POWER_CACHE)/pi; \
	  else echo "NOT RUN: a Raspberry Pi's own I2C controller and clock chip, because it could not be made, see above"; fi; fi; \
	GUEST_PI=$$pi GUEST_KERNEL=$(POWER_CACHE)/guest GUEST_FORM=$(FORM) $(GO) test -count=1 -timeout 6h -v -run 'Kernel' ./device/... ./ui/... ./cmd/... | grep -vE 'no test|^PASS$$'

# Debian's usual kernel for those machines, with its modules for simulated hardware.
# gpio-sim is not among them: it is compiled from the kernel's source, which Debian
# has too, against the headers. Nothing is installed but a library the compiling
# needs; what is not needed afterwards is thrown away.
guest-kernel: deps
	@set -e; ! ls $(POWER_CACHE)/guest/lib/modules/*/kernel/drivers/gpu/drm/drm.ko* $(POWER_CACHE)/guest/lib/modules/*/kernel/fs/fat/vfat.ko* >/dev/null 2>&1 || exit 0; \
	[ "$$(dpkg --print-architecture)" = amd64 ] || { echo "the virtual machine is an amd64 one, and this machine cannot compile for it"; exit 1; }; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; $$sudo apt-get update -qq; \
	p=$$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: linux-image-//p' | head -1); \
	[ -n "$$p" ] || { echo "there is no package linux-image-amd64 here"; exit 1; }; \
	v=$$(echo "$$p" | cut -d. -f1,2); h=linux-headers-; \
	PATH="$$PATH:/usr/sbin:/sbin" ldconfig -p | grep -q 'libelf\.so\.1 ' || DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends libelf1 >/dev/null; \
	mkdir -p $(POWER_CACHE); t=$$(mktemp -d $(POWER_CACHE)/new.XXXXXX); trap "rm -rf $$t" EXIT; cd $$t; mkdir guest sim headers; \
	echo "fetching linux-image-$$p and the source of gpio-sim into $(POWER_CACHE)"; \
	apt-get -qq -o APT::Sandbox::User=root download linux-image-$$p $$h$$p $$h$${p%-amd64}-common linux-kbuild-$$v linux-source-$$v; \
	dpkg-deb --fsys-tarfile linux-image-*.deb | tar x -C guest --wildcards \
	  $(foreach d,net sound drivers/net drivers/media drivers/iio drivers/infiniband drivers/scsi drivers/gpu/drm/[a-ce-t]* fs/[deg-mo-z]* fs/n[a-km-z]* fs/f[b-tv-z]*,--exclude='./lib/modules/*/kernel/$(d)') './boot/vmlinuz-*' ./lib/modules; \
	for d in $$h*.deb linux-kbuild-*.deb; do dpkg-deb -x $$d headers; done; \
	sed -i "s|/usr/src/|$$t/headers/usr/src/|" headers/usr/src/$$h$$p/Makefile; \
	dpkg-deb --fsys-tarfile linux-source-*.deb | tar xO ./usr/src/linux-source-$$v.tar.xz | tar xJ -C sim --transform 's|.*/||' --wildcards \
	  '*/drivers/gpio/gpio-sim.c' '*/drivers/gpio/gpiolib.h' '*/kernel/irq/irq_sim.c'; \
	sed -i 's/handle_simple_irq(irq_to_desc(irqnum))/generic_handle_irq(irqnum)/' sim/irq_sim.c; : modules may not use irq_to_desc; \
	printf '#include <linux/module.h>\nMODULE_LICENSE("GPL");\n' > sim/licence.c; \
	printf 'obj-m += gpio-sim.o irq-sim.o\nirq-sim-y := irq_sim.o licence.o\n' > sim/Kbuild; \
	$(MAKE) -s -C headers/usr/src/$$h$$p M=$$t/sim CC=gcc modules 2>&1 | { grep -v BTF || :; }; \
	[ ! -d $(POWER_CACHE)/guest ] || mv -T $(POWER_CACHE)/guest older; : it lacks what this one is for; \
	cp sim/*.ko guest/lib/modules/$$p/; mv -T guest $(POWER_CACHE)/guest 2>/dev/null || [ -d $(POWER_CACHE)/guest ]

# A Raspberry Pi 3 for them: Debian's kernel for 64-bit ARM with the board's device tree,
# and a QEMU that knows its I2C controller, which is version 9 or newer: of Debian's
# backports, where the release has an older one. Both are unpacked, and nothing is
# installed: this machine's own lists of packages stay as they are.
guest-pi: deps
	@set -e; [ ! -d $(POWER_CACHE)/pi ] || exit 0; \
	[ "$$(dpkg --print-architecture)" = amd64 ] || { echo "its QEMU is an amd64 program"; exit 1; }; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; $$sudo apt-get update -qq; \
	read -r mirror suite <<< "$$(apt-get indextargets --format '$$(REPO_URI) $$(CODENAME)' 'Created-By: Packages' 'Origin: Debian' | head -1)"; \
	[ -n "$$suite" ] || { echo "this machine has no packages of Debian"; exit 1; }; \
	mkdir -p $(POWER_CACHE); t=$$(mktemp -d $(POWER_CACHE)/new.XXXXXX); trap "rm -rf $$t" EXIT; cd $$t; \
	mkdir -p pi qemu apt/lists/partial apt/archives/partial; : > apt/status; \
	for s in "amd64,arm64] $$mirror $$suite" "amd64] $$mirror $$suite-backports"; do \
	  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg arch=$$s main"; done > apt/sources; \
	printf '%s;\n' "Dir::State::Lists \"$$t/apt/lists\"" "Dir::State::status \"$$t/apt/status\"" "Dir::Cache \"$$t/apt\"" \
	  "Dir::Etc::sourcelist \"$$t/apt/sources\"" 'Dir::Etc::sourceparts "/dev/null"' 'APT::Architectures { "amd64"; "arm64"; }' 'APT::Sandbox::User "root"' > apt/conf; \
	export APT_CONFIG=$$t/apt/conf; apt-get -qq update; \
	q=$$(apt-cache madison qemu-system-arm:amd64 | awk '{print $$3}' | sort -V | tail -1); \
	k=$$(apt-cache depends linux-image-arm64:arm64 | sed -n 's/^ *Depends: \(linux-image-[^:]*\).*/\1/p' | head -1); \
	[ -n "$$q" ] && [ -n "$$k" ] || { echo "there is no package linux-image-arm64 or qemu-system-arm here"; exit 1; }; \
	echo "fetching $$k for arm64 and qemu-system-arm $$q into $(POWER_CACHE)"; \
	apt-get -qq download $$k:arm64 qemu-system-arm:amd64=$$q; \
	dpkg-deb --fsys-tarfile linux-image-*.deb | tar x -C pi --wildcards './boot/vmlinuz-*' './usr/lib/linux-image-*/broadcom/bcm2837-rpi-3-b.dtb' \
	  './lib/modules/*/modules.builtin' './lib/modules/*/kernel/drivers/i2c' './lib/modules/*/kernel/fs/configfs'; \
	dpkg-deb --fsys-tarfile qemu-system-arm_*.deb | tar x -C qemu ./usr/bin/qemu-system-aarch64; \
	sed 's|/usr/lib/x86_64-linux-gnu/qemu|/nowhere/x86_64-linux-gnu/qemu|g' qemu/usr/bin/qemu-system-aarch64 > pi/qemu-system-aarch64; : where the installed one has modules, which are not for this one; \
	chmod +x pi/qemu-system-aarch64; ! ldd pi/qemu-system-aarch64 | grep 'not found'; \
	pi/qemu-system-aarch64 -machine raspi3b -device help | grep -q ds1338 || { echo "this QEMU has no such clock chip"; exit 1; }; \
	mv -T pi $(POWER_CACHE)/pi 2>/dev/null || [ -d $(POWER_CACHE)/pi ]

deb: ## packages of the clock for amd64, arm64 and armhf (ARM v6 and up), and of its screen, in bin/deb
	systemd/deb/build

repo: ## a signed apt repository of bin/deb, in bin/repo: make repo KEY=secret-key-file URL=where-clocks-find-it
	@KEY='$(KEY)' URL='$(URL)' systemd/deb/repo

test-deb: debian-base ## packages built twice, installed, upgraded, updated, downgraded and purged in a Debian of its own, as root. FORM=short: in a minute
	@[ $(FORM) != full ] || $(MAKE) --no-print-directory debian-arm || echo "NOT RUN: installing the package for ARM, because a Debian for it could not be made, see above"
	DEB_BASE=$(POWER_CACHE)/debian.tar DEB_ARM_BASE=$(POWER_CACHE)/debian-arm64.tar DEB_FORM=$(FORM) $(GO) test -count=1 -timeout 90m -v -run 'Package' ./systemd | grep --line-buffered -vE '^=== |^PASS$$'

# A small Debian to install packages in, which test-deb unpacks and throws away.
debian-base: deps
	@set -e; [ "$$(id -u)" = 0 ] || { echo "making a Debian and installing packages in it takes root"; exit 1; }; \
	! tar tf $(POWER_CACHE)/debian.tar 2>/dev/null | grep /omprog.so >/dev/null || exit 0; : an older one lacks rsyslog; \
	[ "$$(dpkg --print-architecture)" = amd64 ] || { echo "the packages are tested on amd64, and this machine is another"; exit 1; }; \
	mkdir -p $(POWER_CACHE); t=$$(mktemp -d $(POWER_CACHE)/new.XXXXXX); trap "rm -rf $$t" EXIT; \
	echo "fetching Debian's packages into $(POWER_CACHE)/debian.tar"; \
	mmdebstrap --quiet --variant=apt --include=systemd-sysv,ca-certificates,init-system-helpers,procps,rsyslog,rsyslog-relp \
	  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' trixie $$t/debian.tar; \
	mv $$t/debian.tar $(POWER_CACHE)/

# The same for 64-bit ARM, unpacked and no more: nothing of it can run here by itself.
# And what else the full form takes.
FULL_NEEDS := qemu-aarch64-static:qemu-user-static systemd-nspawn:systemd-container
debian-arm: deps
	@want=; for n in $(FULL_NEEDS); do command -v $${n%%:*} >/dev/null || want="$$want $${n##*:}"; done; \
	if [ -n "$$want" ]; then echo "installing:$$want"; sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$want >/dev/null; fi
	@set -e; [ ! -e $(POWER_CACHE)/debian-arm64.tar ] || exit 0; \
	mkdir -p $(POWER_CACHE); t=$$(mktemp -d $(POWER_CACHE)/new.XXXXXX); trap "rm -rf $$t" EXIT; \
	echo "fetching Debian's packages for ARM into $(POWER_CACHE)/debian-arm64.tar"; \
	mmdebstrap --quiet --arch=arm64 --variant=extract --include=$(ARM_PACKAGES) trixie $$t/debian-arm64.tar; \
	mv $$t/debian-arm64.tar $(POWER_CACHE)/
ARM_PACKAGES := dpkg,dash,bash,coreutils,diffutils,findutils,grep,sed,tar,gzip,perl-base,libc-bin,base-files,base-passwd,debconf,systemd,ca-certificates,init-system-helpers,procps

# The card of a Raspberry Pi, from Debian's packages for it and our program; the same
# commit gives the same image. Debian's part is fetched once and kept in the cache.
IMAGE := bin/image
image: export SOURCE_DATE_EPOCH := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),1)
image: image-deps ## bin/image/punchclock.img, one for every clock: Raspberry Pi 3, 4, 5. UPDATE_CERT=FILE UPDATE_URL=https://…: who signs its updates, and where they are
	@mkdir -p $(IMAGE)
	GOOS=linux GOARCH=arm64 $(GOBUILD) -o $(IMAGE)/ ./cmd/punchclock
	systemd/image/build.sh $(IMAGE)/punchclock '$(VERSION)' $(POWER_CACHE) $(IMAGE) '$(UPDATE_CERT)' '$(UPDATE_URL)'

bundle: image ## bin/image/punchclock.raucb, an update for cards that were made with this UPDATE_CERT=FILE; UPDATE_KEY=FILE signs it
	@[ -n "$(UPDATE_CERT)" ] && [ -n "$(UPDATE_KEY)" ] || { echo "say whose it is: make bundle UPDATE_CERT=cert.pem UPDATE_KEY=key.pem"; exit 1; }
	systemd/image/bundle.sh $(IMAGE)/slot '$(VERSION)' '$(UPDATE_CERT)' '$(UPDATE_KEY)' $(IMAGE)/punchclock.raucb

MACHINE ?= virt
test-image: image ## flash, start, tap: the image in an emulated machine until the punch is in a sandbox cloud, then without its data partition. MACHINE=raspi3b: on a Pi's device tree
	IMAGE=$(CURDIR)/$(IMAGE) MACHINE=$(MACHINE) $(GO) test -count=1 -timeout 3h -v -run 'Image' ./systemd

# Keys of its own, a card of version 1, a bundle of version 2.
UPDATE := bin/update
test-update: N = 20
test-update: image-deps ## a signed update on an emulated card, by U-Boot and RAUC: refused, installed, found good, fallen back; then the power cut at N (20) places of it. An hour on a machine that has nothing else to do
	@mkdir -p $(UPDATE)/1 $(UPDATE)/2
	@rm -f $(UPDATE)/commissioned.img $(UPDATE)/good.*
	@openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=updates -keyout $(UPDATE)/key.pem -out $(UPDATE)/cert.pem 2>/dev/null
	$(MAKE) --no-print-directory image IMAGE=$(UPDATE)/1 VERSION=1.0 UPDATE_CERT=$(UPDATE)/cert.pem UPDATE_URL=http://10.0.2.101:8080/punchclock.raucb
	$(MAKE) --no-print-directory bundle IMAGE=$(UPDATE)/2 VERSION=2.0 UPDATE_CERT=$(UPDATE)/cert.pem UPDATE_KEY=$(UPDATE)/key.pem UPDATE_URL=http://10.0.2.101:8080/punchclock.raucb
	UPDATE=$(CURDIR)/$(UPDATE) CUTS=$(N) $(GO) test -count=1 -timeout 12h -v -run 'TestUpdate' ./systemd

image-twice: export SOURCE_DATE_EPOCH := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),1)
image-twice: image-deps ## build the image in two folders: the same bytes, or it fails
	@t=$$(mktemp -d $(CURDIR)/bin/twice.XXXXXX); trap "rm -rf $$t" EXIT; set -e; \
	for d in one another/folder; do mkdir -p $$t/$$d; git ls-files -z | xargs -0 cp --parents -t $$t/$$d; \
	  $(MAKE) --no-print-directory -C $$t/$$d image VERSION='$(VERSION)'; done; \
	for f in punchclock slot initrd.img punchclock.img punchclock.img.zst; do cmp $$t/one/bin/image/$$f $$t/another/folder/bin/image/$$f && echo "the same: $$f"; done

IMAGE_NEEDS := mmdebstrap:mmdebstrap rauc:rauc mksquashfs:squashfs-tools mcopy:mtools mkfs.vfat:dosfstools mkfs.ext4:e2fsprogs sfdisk:fdisk mkimage:u-boot-tools dtc:device-tree-compiler cpio:cpio depmod:kmod zstd:zstd xz:xz-utils qemu-system-aarch64:qemu-system-arm
image-deps:
	@PATH="$$PATH:/usr/sbin:/sbin"; want=; for n in $(IMAGE_NEEDS); do command -v $${n%%:*} >/dev/null || want="$$want $${n##*:}"; done; \
	if [ -n "$$want" ]; then echo "installing:$$want"; sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$want >/dev/null; fi

durability-faults: deps ## make each write, sync, truncation and rename fail in turn, and every sync come 800 ms late
	FAULTS=all $(GO) test -count=1 -timeout 60m -v -run 'Fault' ./queue
	SLOW_TAPS=100 $(GO) test -count=1 -timeout 20m -v -run 'Slow' ./cmd/punchclock

PACKED := ui/screen/outlines.gz ui/lcd/glyphs.gz queue/roster/encodings.gz
squeeze: ## pack the tables in the program a twentieth smaller than Go does, after a test has made one anew (-update)
	@command -v zopfli >/dev/null || { echo "install Debian's package zopfli"; exit 1; }
	@t=$$(mktemp); trap "rm -f $$t" EXIT; set -e; for f in $(PACKED); do gunzip -c $$f > $$t; zopfli -c $$t > $$f; ls -l $$f; done

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

lint: ## vet and staticcheck
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...

# What the tests use beside Go, from Debian. Nothing is installed that is there.
NEEDS := gcc:gcc qemu-arm:qemu-user systemd-analyze:systemd strace:strace chromium:chromium qemu-system-x86_64:qemu-system-x86 mkfs.ext4:e2fsprogs xz:xz-utils zstd:zstd mcopy:mtools mkfs.vfat:dosfstools losetup:mount rsyslogd:rsyslog mmdebstrap:mmdebstrap apt-ftparchive:apt-utils gpg:gpg rauc:rauc mksquashfs:squashfs-tools openssl:openssl pdftotext:poppler-utils mutool:mupdf-tools qpdf:qpdf cjpeg:libjpeg-turbo-progs
deps:
	@PATH="$$PATH:/usr/sbin:/sbin"; want=; for n in $(NEEDS); do command -v $${n%%:*} >/dev/null || want="$$want $${n##*:}"; done; \
	if fc-list :lang=zh 2>/dev/null | grep -q .; then :; else want="$$want fontconfig fonts-noto-cjk"; fi; \
	ls /usr/lib/*/rsyslog/imrelp.so >/dev/null 2>&1 || want="$$want rsyslog-relp"; \
	if fc-list :lang=th 2>/dev/null | grep -q .; then :; else want="$$want fontconfig fonts-noto-core"; fi; \
	if [ -n "$$want" ]; then echo "installing:$$want"; sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$want >/dev/null; fi
