# U-Boot: take the first slot of BOOT_ORDER that has tries left, count one down, save,
# boot it. RAUC knows these three names. A slot is a squashfs and, at the next 4 KiB
# after it, a FIT image with kernel and initramfs, whose checksums bootm compares: a
# slot is written, checked and left as one thing.
test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 9
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 9
# From the second boot on: no keyboard, no two seconds. Else a badge that is read while
# the clock starts is a key that stops it.
setenv bootdelay -2
setenv preboot
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
if test -z "${slot}"; then
  setenv BOOT_A_LEFT 9; setenv BOOT_B_LEFT 9; saveenv; reset
fi
# The firmware's device tree, with the board's addresses and serial number. Where it lies
# may change: it is not for saving.
setenv tree ${fdt_addr}
setenv fdt_addr
saveenv
echo "punchclock: slot ${slot}, tries left A ${BOOT_A_LEFT} B ${BOOT_B_LEFT}"

# Far from where the kernel unpacks to (2 MiB) and from the firmware's tree.
setenv fit 0x10000000
${devtype} dev ${devnum}
part start ${devtype} ${devnum} ${part} at
${devtype} read ${fit} ${at} 1
# squashfs: bytes used, at offset 40
setexpr.l used *0x10000028
setexpr used ${used} + fff
setexpr used ${used} / 1000
setexpr used ${used} * 8
setexpr at ${at} + ${used}
${devtype} read ${fit} ${at} 1
fdt addr ${fit}
fdt header get size totalsize
setexpr size ${size} + 1ff
setexpr size ${size} / 200
${devtype} read ${fit} ${at} ${size}

# cmdline.txt comes with the tree.
fdt addr ${tree}
fdt get value args /chosen bootargs
setenv bootargs "${args} rauc.slot=${slot}"
bootm ${fit}:kernel ${fit}:initramfs ${tree}
# Not reached, or this slot is damaged. Its tries end, and the other one comes.
reset
