#!/bin/bash
# Builds one SD card image for Raspberry Pi 3, 4 and 5 (arm64) from Debian packages and
# our program. Nothing of it is run while it is built, so no emulation, no loop mount
# and no root are needed; the same input gives the same bytes.
#
#   build.sh PROGRAM VERSION CACHE OUT [CERTIFICATE [ADDRESS]]
#
# PROGRAM      punchclock for linux/arm64
# CACHE        Debian's packages, unpacked once; remove the folder to have newer ones
# OUT          punchclock.img, .img.zst for the download, packages.txt, and for emulators
#              kernel and initramfs by themselves, and U-Boot for a machine of QEMU's
# CERTIFICATE  what signatures of updates are checked with; without one the clock takes none
# ADDRESS      where the newest bundle is
#
# The card:   1 MiB  boot  FAT, for the Pi's firmware: U-Boot, device trees, cmdline.txt
#            49 MiB  A     squashfs and, behind it, kernel and initramfs (boot.cmd)
#           169 MiB  B     the same; updates go to the one that does not run
#           289 MiB  data  ext4, grows to the end of the card at the first start
set -euo pipefail
# What mmdebstrap calls when it has Debian's lists: kernel, firmware and U-Boot are not
# of the root file system.
fetch() {
	cd "$1"
	mkdir board
	kernel=$(apt-cache show linux-image-arm64 | sed -n 's/^Depends:.* linux-image-\([0-9][^ ]*-arm64\) .*/\1/p' | sort -V | tail -1)
	apt-get -qq download "linux-base-$kernel" "linux-binary-$kernel" "linux-modules-$kernel" raspi-firmware u-boot-rpi u-boot-qemu firmware-brcm80211
	for d in *.deb; do dpkg-deb -x "$d" board; done
	for d in *.deb var/cache/apt/archives/*.deb; do dpkg-deb -W --showformat='${Package} ${Version}\n' "$d"; done > packages.txt
	rm -- *.deb
}
if [ "$1" = --fetch ]; then fetch "$2"; exit; fi

program=$(realpath "$1") version=$2 cache=$3 out=$4 cert=${5:-} address=${6:-}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$cache" "$out"
out=$(realpath "$out") cache=$(realpath "$cache")
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:?is the time that everything in the image gets}
export TZ=UTC LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
umask 022
disk=70756e63 boot_mib=48 slot_mib=120 data_mib=32

# Without what only their maintainer scripts would start. No SSH, no shell for anybody
# to log into, no package manager.
packages=systemd-sysv,udev,dbus-daemon,kmod,mount,util-linux,e2fsprogs,libc-bin,fdisk,coreutils,dash,sed,grep,base-files,netbase,ca-certificates,systemd-timesyncd,systemd-resolved,wpasupplicant,wireless-regdb,rauc,rauc-service,libubootenv-tool,busybox-static,rsyslog,rsyslog-relp,rsyslog-openssl
# The kernel is that of trixie-backports: the one of trixie has no driver for a Pi 5's
# card slot, nor for its I/O chip.
# RAUC is that of the Debian after trixie, with libnl, which it needs newer: from
# Linux 6.19 on trixie's installs nothing, because dm-verity says "V -" where it said "V".
# Nothing else comes from there; should they need more, the fetching fails and says so. Its
# lists are signed like the others, and may be as old as theirs.
next=forky
newer=$(printf 'Package: *\nPin: release n=%s\nPin-Priority: -1\n\nPackage: rauc rauc-service libnl-3-200 libnl-genl-3-200 libnl-route-3-200\nPin: release n=%s\nPin-Priority: 990\n' $next $next)
base=$cache/image-$(echo "$packages $newer $(declare -f fetch)" | sha256sum | cut -c1-12)

if [ ! -d "$base" ]; then
	# From where this machine has Debian, security updates included.
	from=$(sed -n 's/^URIs: *//p; s/^deb \(\[.*\] *\)\?\(http[^ ]*\).*/\2/p' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true)
	mirror=$(head -1 <<< "$from") security=$(grep -m1 security <<< "$from" || true)
	[ -n "$mirror" ] || { echo "no Debian in /etc/apt of this machine: the packages of the image come from the same place as its own"; exit 1; }
	echo "fetching Debian for arm64 into $base"
	new=$(mktemp -d "$cache/new.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	mmdebstrap --quiet --arch=arm64 --variant=extract --skip=cleanup/apt --include="$packages" \
		--aptopt='APT::Install-Recommends "false"' --aptopt='APT::Sandbox::User "root"' \
		--setup-hook='echo '"'$newer'"' > "$1/etc/apt/preferences.d/newer"' \
		--extract-hook='APT_CONFIG=$MMDEBSTRAP_APT_CONFIG '"$here"'/build.sh --fetch "$1"' trixie "$new/root" \
		"deb $mirror trixie main non-free-firmware" "deb $mirror trixie-backports main" "deb [check-valid-until=no] $mirror $next main" \
		${security:+"deb $security trixie-security main"}
	mv "$new/root/board" "$new/board"
	sort -u "$new/root/packages.txt" > "$new/packages.txt"
	rm -rf "$new"/root/{packages.txt,var/cache/apt,var/lib/apt}
	depmod -b "$new/board/usr" "$(ls "$new/board/usr/lib/modules")"
	mv -T "$new" "$base"
	trap - EXIT
fi

t=$(mktemp -d "$out/new.XXXXXX")
trap 'rm -rf "$t"' EXIT
root=$t/root board=$base/board
kernel=$(ls "$board/usr/lib/modules")
modules=$board/usr/lib/modules/$kernel

echo "root file system"
cp -a --reflink=auto "$base/root" "$root"
rm -rf "$root"/var/{run,lock} "$root"/usr/share/{man,locale,info,lintian,bug,i18n,perl5,bash-completion,zsh,common-licenses/GFDL*} \
	"$root"/usr/lib/udev/hwdb.d "$root"/usr/lib/aarch64-linux-gnu/gconv "$root"/var/{cache,log,lib/dpkg} "$root"/etc/{apt,dpkg}
find "$root/usr/share/doc" -type f ! -name copyright -delete # whose work it is, and under which licence, goes with it
find "$root/usr/share/doc" -type d -empty -delete
mkdir -m 700 "$root/var/lib/private" # as systemd wants it
mkdir -p "$root"/{data,usr/local/bin,boot/firmware,var/cache,var/log,run/rauc}
cp -r "$here/overlay/." "$root/"
cut -d' ' -f2 "$root/etc/keep.fstab" | (cd "$root" && xargs -I{} mkdir -p .{})
install -D "$program" "$root/usr/bin/punchclock"
ln -s ../../bin/punchclock "$root/usr/local/bin/punchclock" # where the units expect it
mkdir -p "$root/usr/share/doc/punchclock"
"$here/../licences" > "$root/usr/share/doc/punchclock/copyright"
shopt -s nullglob
install -m 644 -t "$root/usr/lib/systemd/system" "$here"/../*.service "$here"/../deb/punchclock-{trial,update}.*
install -D -m 644 "$here/../60-punchclock.rules" -t "$root/usr/lib/udev/rules.d"
install -D -m 644 "$here/../punchclock.sysusers" "$root/usr/lib/sysusers.d/punchclock.conf"
echo "$version" > "$root/etc/punchclock-image"
cp "$base/packages.txt" "$out/packages.txt"

# What Debian's maintainer scripts would have done, as far as a clock needs it.
: > "$root/etc/machine-id" # a new one at every start, in memory
echo punchclock > "$root/etc/hostname"
printf '127.0.0.1 localhost punchclock\n::1 localhost\n' > "$root/etc/hosts"
printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n' > "$root/etc/nsswitch.conf"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
ln -sfn ../run "$root/var/run"
ln -sfn ../run/lock "$root/var/lock"
mkdir -p "$root/etc/ssl/certs"
find "$root/usr/share/ca-certificates" -name '*.crt' | sort | xargs cat > "$root/etc/ssl/certs/ca-certificates.crt"
ln -s regulatory.db-debian "$root/usr/lib/firmware/regulatory.db"
ln -s regulatory.db.p7s-debian "$root/usr/lib/firmware/regulatory.db.p7s"
ln -s multi-user.target "$root/etc/systemd/system/default.target"
# Accounts, all of them without a password. Older systemds do not know "u!", a locked
# account; all of ours are, see below.
sed -i 's/^u!/u/' "$root"/usr/lib/sysusers.d/*.conf
systemd-sysusers --root="$root" 2>/dev/null
touch "$root/etc/.updated" "$root/var/.updated" # so that no start does it again
awk -F: -vOFS=: '{ $2 = "!*"; $3 = 1; print }' "$root/etc/shadow" > "$t/shadow" && install -m 600 "$t/shadow" "$root/etc/shadow"
rm -f "$root"/etc/{passwd,group,shadow,gshadow}-
find "$root" -perm /6000 -exec chmod ug-s {} +
[ -z "$cert" ] || cp "$cert" "$root/etc/rauc/keyring.pem"
[ -z "$address" ] || echo "$address" > "$root/etc/rauc/source"

# What starts, and what never does: no login, no shell in an emergency.
units=$root/etc/systemd/system
systemctl --root="$root" -q enable systemd-networkd systemd-resolved systemd-timesyncd punchclock-data punchclock-slot-good.timer
for u in "$here"/../*.service "$here"/../deb/punchclock-{trial.s,update.t}*; do # the browser's is for a desktop
	case $u in *-kiosk.service) ;; *) systemctl --root="$root" -q enable "$(basename "$u")" ;; esac
done
for u in ctrl-alt-del.target getty.target getty@.service serial-getty@.service autovt@.service console-getty.service \
	container-getty@.service debug-shell.service emergency.service rescue.service systemd-firstboot.service \
	ldconfig.service systemd-logind.service systemd-user-sessions.service systemd-hostnamed.socket systemd-networkd-persistent-storage.service \
	e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-sysext.socket systemd-machine-id-commit.service systemd-journal-flush.service; do
	ln -sfn /dev/null "$units/$u"
done
# Nor what a clock has nothing for: each is a program or two before the first tap.
for u in dev-hugepages.mount dev-mqueue.mount sys-kernel-{config,debug,tracing}.mount sys-fs-fuse-connections.mount \
	proc-sys-fs-binfmt_misc.automount systemd-random-seed.service; do
	ln -sfn /dev/null "$units/$u"
done
mkdir -p "$root/etc/systemd/system-generators"
for g in getty gpt-auto hibernate-resume rc-local run ssh system-update sysv tpm2; do
	ln -sfn /dev/null "$root/etc/systemd/system-generators/systemd-$g-generator"
done

# Drivers of what a Pi has, of what hangs on a clock, and of the emulator; with all
# that they need.
keep='drivers/(mmc|usb|hid|input|i2c|spi|gpio|pinctrl|rtc|watchdog|hwmon|thermal|pwm|leds|regulator|nvmem|mfd|dma|reset|firmware|soc|clk|cpufreq|char|virtio|misc/rp1|md|gpu/drm/(vc4|v3d|virtio)|video|net/(usb|phy|mdio|virtio_net|ethernet/(broadcom/genet|cadence)|wireless/broadcom)|block/(loop|virtio_blk))|fs/(ext4|squashfs|overlayfs|fat|nls|autofs|fuse)|net/(ipv4|ipv6|packet|unix|wireless|mac80211|rfkill)|crypto|lib'
mkdir -p "$root/usr/lib/modules/$kernel"
awk -F: -vkeep="^kernel/($keep)[/.]" '
	{ needs[$1] = $2; if ($1 ~ keep) want[++n] = $1 }
	END { for (i = 1; i <= n; i++) if (!(want[i] in have)) { have[want[i]]; print want[i]
		m = split(needs[want[i]], d, " "); for (j = 1; j <= m; j++) want[++n] = d[j] } }' "$modules/modules.dep" |
	sort | (cd "$modules" && cpio -pdm --quiet "$root/usr/lib/modules/$kernel")
find "$root/usr/lib/modules" -name '*.ko.xz' -exec xz -d {} + # the slot is packed anyway, with what is unpacked ten times as fast
cp "$modules"/modules.{builtin,builtin.modinfo,order} "$root/usr/lib/modules/$kernel/"
depmod -b "$root/usr" "$kernel"
# Wi-Fi of the boards: what is linked to by their names, and the rules of the countries.
(cd "$board/usr/lib/firmware" && find brcm cypress \( -name 'brcmfmac434[35]*-sdio*' -o -name 'cyfmac434[35]*' \) 2>/dev/null | sort |
	cpio -pdm --quiet "$root/usr/lib/firmware" 2>/dev/null)

echo "initramfs"
mkdir -p "$t"/ir/{bin,dev,proc,sys,mod}
cp "$root/usr/bin/busybox" "$t/ir/bin/"
install "$here/init" "$t/ir/init"
# The watchdog's too: systemd arms it first of all, and without it a Pi does not restart.
# First a word of the boards that have it, then what needs each other, or the same third.
for line in 'bcm bcm2835_wdt' 'bcm bcm2835' 'bcm sdhci-iproc sdhci-brcmstb' 'bcm mmc_block' 'virt virtio_pci virtio_blk' ', squashfs' ', overlay'; do
	boards=${line%% *} line=${line#* }
	need=$(for m in $line; do modprobe -d "$root/usr" -S "$kernel" --show-depends "$m"; done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }')
	[ -n "$need" ] || continue # the kernel has it
	cp $need "$t/ir/mod/"
	echo "$boards" $(basename -a $need) >> "$t/ir/mod/order"
done
find "$t/ir" "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
(cd "$t/ir" && find . | sort | cpio -o -H newc --quiet --reproducible -R 0:0 | zstd -q -19) > "$t/initrd.img"

echo "slot"
mksquashfs "$root" "$t/slot" -comp zstd -Xcompression-level 9 -all-root -noappend -quiet -no-progress
gzip -9nc "$modules/vmlinuz" > "$t/vmlinuz.gz"
mkimage -A arm64 -O linux -T kernel_noload -C gzip -n Linux -d "$t/vmlinuz.gz" "$t/kernel" >/dev/null
mkimage -A arm64 -O linux -T ramdisk -C none -n initramfs -d "$t/initrd.img" "$t/initramfs" >/dev/null
dtc -q -I dts -O dtb -i "$t" "$here/slot.dts" >> "$t/slot"
[ "$(stat -c %s "$t/slot")" -le $((slot_mib << 20)) ] || { echo "$(stat -c %s "$t/slot") bytes are too many for a slot of $slot_mib MiB"; exit 1; }

echo "boot partition"
fw=$board/usr/lib/raspi-firmware
mkdir "$t/fat"
cp "$fw"/{bootcode.bin,start.elf,fixup.dat,start4.elf,fixup4.dat} "$board/usr/lib/u-boot/rpi_arm64/u-boot.bin" "$here"/{config,cmdline}.txt "$t/fat/"
for h in header header-pi5; do dtc -q -@ -I dts -O dtb -o "$t/$h.dtbo" "$here/$h.dts"; done
for d in "$board/usr/lib/linux-image-$kernel"/broadcom/bcm2{837-rpi-3,837-rpi-zero-2,711-rpi-4,712}*.dtb; do
	case $d in */bcm2712*) h=header-pi5 ;; *) h=header ;; esac
	fdtoverlay -i "$d" -o "$t/fat/$(basename "$d")" "$t/$h.dtbo"
done
mkimage -A arm64 -T script -d "$here/boot.cmd" "$t/fat/boot.scr" >/dev/null
# U-Boot's own settings are never written again: nothing but the card and this script, no
# keyboard and no two seconds for one. A badge that is read while the clock starts
# would be a key that stops it.
mkenvimage -s 0x4000 -o "$t/fat/uboot.env" "$here/uboot.txt"
printf 'BOOT_ORDER=A B\nBOOT_A_LEFT=9\nBOOT_B_LEFT=9\n' | mkenvimage -s 0x4000 -o "$t/fat/slots.env" -
cp "$t/fat/slots.env" "$t/fat/slots.bak"
find "$t/fat" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
truncate -s ${boot_mib}M "$t/boot"
# Pieces of 8 KiB: of what is written with sync each costs the card several writes.
mkfs.vfat --invariant -F 16 -s 16 -i $disk -n PUNCHCLOCK "$t/boot" >/dev/null
(cd "$t/fat" && mcopy -m -i "$t/boot" $(ls | sort) ::)

echo "data partition"
truncate -s ${data_mib}M "$t/data"
E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mkfs.ext4 -q -L punchclock -U $disk-0000-4000-8000-000000000004 \
	-E hash_seed=$disk-0000-4000-8000-000000000004,lazy_itable_init=0,root_owner=0:0 -m 0 "$t/data"

img=$t/punchclock.img
a=$((1 + boot_mib)) b=$((1 + boot_mib + slot_mib)) d=$((1 + boot_mib + 2 * slot_mib))
truncate -s $((d + data_mib))M "$img"
sfdisk -q "$img" <<T
label: dos
label-id: 0x$disk
start=1MiB, size=${boot_mib}MiB, type=c, bootable
start=${a}MiB, size=${slot_mib}MiB, type=83
start=${b}MiB, size=${slot_mib}MiB, type=83
start=${d}MiB, size=${data_mib}MiB, type=83
T
put() { dd if="$1" of="$img" bs=1M seek="$2" conv=notrunc,sparse status=none; }
put "$t/boot" 1
put "$t/slot" $a
put "$t/slot" $b
put "$t/data" $d
# The second slot is within the window of 128 MiB and costs next to nothing.
zstd -q -f -T0 -6 --long=27 "$img" -o "$t/punchclock.img.zst"
cp "$modules/vmlinuz" "$t/initrd.img" "$t"/fat/{*.dtb,u-boot.bin} "$t/slot" "$out/"
cp "$board/usr/lib/u-boot/qemu_arm64/u-boot.bin" "$out/u-boot-virt.bin"
mv "$img" "$t/punchclock.img.zst" "$out/"
(cd "$out" && sha256sum punchclock.img > punchclock.img.sha256)
ls -l --block-size=KB "$out"/{punchclock.img,punchclock.img.zst,slot,initrd.img} | awk '{ print $5, $NF }'
