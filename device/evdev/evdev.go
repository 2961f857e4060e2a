// Package evdev reads badge readers that act as a USB keyboard: a card is typed,
// as a line of digits. It also reads number pads on which people type a number and a
// PIN: USB ones, and those that a driver of the kernel scans (gpio-matrix-keypad).
//
// # Which device
//
// Exactly one, by its path, best one below /dev/input/by-id, or by its USB vendor
// and product, with the serial number or the physical place where a site has two
// of a kind; where path and identity are both given, both must fit. More than one
// device that fits is an error a person must settle: nothing is guessed. The device
// is taken with EVIOCGRAB, so that a card number goes neither to a console nor into
// a form on the screen, and no other program sees it. Every other keyboard is left
// alone: it is not even opened, since the kernel tells what it is in
// /sys/class/input.
//
// # Keys
//
// What counts is which key was pressed, not which character that is in somebody's
// layout: codes are read as on a US keyboard, which is what readers are set to when
// they are sold. Digits come from the upper row or the keypad, whatever Num Lock
// says; letters with Shift or without. A digit with Shift, and any key with Ctrl,
// Alt or Meta, is none of a card. Automatic repeats and the lock keys mean nothing.
// The line's forms are those of [device.ParseLine].
//
// A line ends with Enter or Tab, or, with readers that send neither, with 100 ms of
// silence. Once a reader has ended a line with a key, silence no longer ends one: a
// stalled USB bus must not cut ten digits down to the eight of another card. It never
// ends one of a reader that leaves leading zeros out: there any piece would be a card.
//
// On a number pad, the dialect "keypad", digits are digits, Enter or # is #, and *,
// Backspace, Escape or Delete is *; the kinds are A to D or F1 to F4. What they mean
// is [device.Typist]'s to say, and how fast they come is not looked at.
//
// # A person is no reader
//
// Keys more than 50 ms apart are typed by a person, and whatever they spell is no
// card: it is a fault, and so is a line of a wrong length or with a strange key. A
// fault asks the person to try again when at least eight keys had come. The time
// between keys is the kernel's own, of the monotonic clock, taken when the key came:
// neither a busy machine nor a clock that is set makes a reader out of a person or
// the other way round. What the kernel had to drop (SYN_DROPPED) is a fault, and so
// is the rest of that line.
//
// Readers type the card again while it stays in the field. Equal lines are one tap
// until there were 800 ms of silence between two of them.
//
// # Events
//
// A record of the kernel is a time, two machine words; a type and a code, 16 bits
// each; and a value, 32 bits: 24 bytes on a 64-bit machine and 16 on a 32-bit one,
// in the machine's byte order, which is little-endian on all that we build for.
//
// # Plugging
//
// A device that is not there, or goes away, is told once as down. Nothing is polled
// while it is away: inotify tells what appears in /dev/input. udev gives names and
// permissions a moment later, so for two seconds after something appeared it is
// tried again and again, with growing pauses. What arrives in the first 100 ms after
// opening belongs to a line whose beginning nobody saw.
package evdev
