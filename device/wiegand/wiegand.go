// Package wiegand reads badge readers and keypads that speak Wiegand: two wires,
// each of which idles high. A bit is a short low pulse, on D0 for a 0 and on D1 for
// a 1, the most significant first. There is no clock, no start and no end, and a
// reader drives 5 V, which a Raspberry Pi's 3.3 V inputs do not survive for long.
//
// # Frames
//
// Pulses are 20 to 800 µs wide and 200 µs to 20 ms apart, so only falling edges
// count, and a frame ends with silence: 30 ms, unless configured from 22 to 60.
// Both times are the kernel's, taken in the interrupt: a program that comes late
// sees the same frames. Formats, with their bits counted from 1 as they come:
//
//	name    bits  facility  number  even over  odd over  badge
//	26      26    2–9       10–25   1–13       14–26     w26:123-45678  (H10301)
//	30      30              2–29    1–15       16–30     w30:123456789
//	34      34    2–17      18–33   1–17       18–34     w34:1234-56789
//	h10304  37    2–17      18–36   1–19       19–37     w37:1000-123456
//	h10302  37              2–36    1–19       19–37     w37:1234567890
//	24      24    1–8       9–24                         w24:123-45678
//	32      32    1–16      17–32                        w32:1234-56789
//
// Unless configured, 26, 30 and 34 are read. The two of 37 bits cannot be told
// apart; 24 and 32 are 26 and 34 without their checks, sent by cheap readers, and
// are not read beside those: two lost pulses would make the one out of the other.
// A frame is kept as the raw form of its card, the first bit in the highest place
// of the first byte. Numbers are never taken out of anything but bits in their
// places, so that leading zeros live.
//
// # What is thrown away
//
// A wrong parity, a length that is no format of this reader, all bits alike (a
// broken wire; no valid frame looks so), more than 128 bits. A gap in the kernel's
// numbering of the edges: bits are lost, and what is on either side of it is no
// frame. Two edges within 50 µs: crosstalk, or a kernel that came too late to know
// which was first; but a second edge of one wire within 10 µs is its ringing and
// means nothing. A pace that shows pulses missing in between, where a longer format
// is read too: 34 of 37 bits that a bad contact has left may pass. Each such frame
// is one fault, and asks the person to try again if eight bits or more had come;
// what is shorter is noise on the wire.
//
// After opening, everything is ignored until the wires were quiet for 100 ms,
// because it may be the rest of a frame. Wires that are not quiet within 2 s, or
// one that stays low, take the reader down with words for the technician, and it
// comes back by itself. While a wire is low its level is looked at once a second;
// otherwise nothing here polls.
//
// Equal frames are one tap until there were 800 ms of silence between two.
//
// # Keypads
//
// A reader with keys sends each key as a short frame of its own, set up on the
// reader as "4-bit burst", "6-bit" or "8-bit burst": 0 to 9, 10 for *, 11 for #.
//
//	4-bit  the number, no check
//	6-bit  even parity over its first half, the number, odd over its second
//	8-bit  the number's complement, the number
//
// What the keys mean is [device.Typist]'s to say. The forms in which a reader
// collects a PIN itself and sends it as 26 bits are refused by not being there: such
// a frame looks like a card.
//
// # The chip
//
// Both wires are one request to the kernel's GPIO character device (version 2,
// Linux 5.10), so that one numbering covers both, with a buffer for 1024 edges: the
// usual one holds 32 and drops the oldest when it is full, which turns a frame of
// 34 bits into another card's 32. The kernel's debouncing stays off. Lines are
// named as on the board: GPIO17, or pin 11 of the header.
package wiegand
