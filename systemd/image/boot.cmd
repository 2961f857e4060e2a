# U-Boot: take the first slot of BOOT_ORDER that has tries left, count one down, save,
# boot it. RAUC knows these three names, and where they are (fw_env.config).
#
# slots.env is written in place, so a pulled plug may leave half of it; its checksum
# tells. slots.bak is what it was at the last start: only U-Boot writes it, and after
# the other one, so one of the two is whole. Half of a note of RAUC's is then no note,
# and the slot that ran runs again.
setenv mem ${ramdisk_addr_r}
if load ${devtype} ${devnum}:1 ${mem} slots.env && env import -c ${mem} 4000 BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT; then
  true
elif load ${devtype} ${devnum}:1 ${mem} slots.bak && env import -c ${mem} 4000 BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT; then
  echo "punchclock: slots.env is damaged, going by the copy of the last start"
fi
test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 9
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 9
setenv slot
for s in ${BOOT_ORDER}; do
  if test -n "${slot}"; then
    true
  elif test "${s}" = "A"; then
    if test 0x${BOOT_A_LEFT} -gt 0; then setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1; setenv slot A; setenv part 2; fi
  elif test "${s}" = "B"; then
    if test 0x${BOOT_B_LEFT} -gt 0; then setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1; setenv slot B; setenv part 3; fi
  fi
done
# Nothing left to try: all of it again, from the start.
if test -z "${slot}"; then setenv BOOT_A_LEFT 9; setenv BOOT_B_LEFT 9; fi
env export -c -s 4000 ${mem} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
fatwrite ${devtype} ${devnum}:1 ${mem} slots.env 4000
fatwrite ${devtype} ${devnum}:1 ${mem} slots.bak 4000
if test -z "${slot}"; then reset; fi
echo "punchclock: slot ${slot} of ${BOOT_ORDER}, tries left A ${BOOT_A_LEFT} B ${BOOT_B_LEFT}"

# A slot is a squashfs and, at the next 4 KiB after it, what slot.dts says: a slot is
# written, checked and left as one thing.
${devtype} dev ${devnum}
part start ${devtype} ${devnum} ${part} at
# What lies there may be anything, so each length is looked at before it is read: some
# drivers wait for ever for no block at all.
${devtype} read ${mem} ${at} 1
setexpr.l magic *${mem}
if test "${magic}" != "73717368"; then echo "punchclock: slot ${slot} does not begin as one"; reset; fi
# squashfs: bytes used, at offset 40
setexpr used ${mem} + 28
setexpr.l used *${used}
setexpr used ${used} + fff
setexpr used ${used} / 1000
setexpr used ${used} * 8
if test 0x${used} -gt 0x3c000; then echo "punchclock: slot ${slot} is longer than a slot"; reset; fi
setexpr at ${at} + ${used}
${devtype} read ${mem} ${at} 1
setenv size ffffffff
if fdt addr ${mem}; then fdt header get size totalsize; fi
setexpr size ${size} + 1ff
setexpr size ${size} / 200
if test 0x${size} -gt 0x3c000; then echo "punchclock: slot ${slot} has no kernel"; reset; fi
${devtype} read ${mem} ${at} ${size}
fdt addr ${mem}
fdt get addr kernel / kernel
fdt get addr initramfs / initramfs

# The firmware's device tree, with the board's addresses and serial number, and with
# cmdline.txt. Where all of it goes is U-Boot's to find out.
setenv fdt_high
setenv initrd_high
fdt addr ${fdt_addr}
fdt get value args /chosen bootargs
setenv bootargs "${args} rauc.slot=${slot}"
# Compares the checksums of both.
bootm ${kernel} ${initramfs} ${fdt_addr}
# Not reached, or this slot is damaged. Its tries end, and the other one comes.
reset
