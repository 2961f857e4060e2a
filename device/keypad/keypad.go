// Package keypad reads a matrix of keys wired to GPIO: 4×4 or 4×3, as they are sold
// without any electronics.
//
// # The wires
//
// A key connects its row to its column. Rows are inputs with the processor's
// pull-ups. A column is an output that is low, or an input: two keys held down in one
// row never connect two lines that are driven to different levels.
//
// While nobody touches it all columns are low, and the kernel tells us when a row
// falls: nothing is polled. An edge is a hint only; what counts is what a scan sees.
// A scan lets one column after another be the only low one, gives the wires 20 µs
// to settle, and reads the rows. From the first edge on it is repeated every 5 ms,
// until four scans in a row have seen no key.
//
// # Which key
//
// What four scans in a row have seen, for 20 ms, is so: contacts bounce for less.
//
//   - One key, where none was before, is pressed. It is pressed once, however long
//     it is held.
//   - A second key beside it is not: a finger that slips would be two digits. Until
//     all keys are let go none counts.
//   - Two keys that come at once are none: which was meant is not for a clock to
//     guess.
//   - Three keys or more are none. Without diodes any three corners of a rectangle
//     show the fourth, so it is not known which are held.
//
// The last two are faults. A key that is held for half a minute is stuck: the
// keypad is down, and is looked at once a second until the key is free.
//
// # What keys mean
//
// That is [device.Typist]'s to say: a number, #, a PIN, # is an entry, * clears, and
// A to D are 上班 下班 外出 外歸. Which key is where is configured, row by row.
package keypad
