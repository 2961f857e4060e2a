// Package serialport reads badge readers on a serial line: 125 kHz boards with a
// framed protocol, and readers that write a card as a line of digits.
//
// # Dialects
//
//	rdm6300   STX, 10 hex digits, 2 hex digits XOR of the five bytes, ETX
//	id12la    STX, 10 hex digits, 2 hex digits XOR, CR, LF, ETX
//	idteck    STX, 10 hex digits, ETX, one binary byte: the XOR from STX to ETX
//	parallax  LF, 10 hex digits, CR; no check. Usually at 2400 baud
//	hex-line  a line of 10 hex digits (a 125 kHz number) or of 8, 14 or 20 (a UID)
//	raw4      four bytes without any framing or check, between two silences of 50 ms
//	dec-line  a line of 8, 10 or 13 digits, which may hold one comma; no check
//
// A 125 kHz number becomes the badge em:<10 hex digits>, its five bytes are kept
// as the raw form. A UID becomes uid:<hex digits>, in the byte order in which the
// reader sent it. A decimal line becomes dec:<as it came>, leading zeros and comma
// included, and its raw form is the ASCII text: how a reader makes the decimal
// number out of the card's bits differs from seller to seller, so nothing is
// computed back from it.
//
// The four bytes of raw4 (MicroRWD's auxiliary output) are a UID too. Nothing tells a
// card from four bytes of noise there; such a reader is for sites that have no other.
//
// IDTECK's 26-bit setting (8 digits) holds less than the card's number and is
// refused; set such a reader to its 34-bit form.
//
// A line may begin with STX and ends with CR, LF, CR LF or ETX, or, with readers
// that send no terminator, with 50 ms of silence. Once a reader has ended a line
// with a terminator, silence no longer ends one: a stalled adapter must not cut
// ten digits down to the eight of another card.
//
// # What is thrown away
//
// Every frame is taken whole or not at all. A wrong check, a wrong length, a byte
// that does not belong, 50 ms of silence inside a frame: each is a fault, and what
// was collected is gone. The parser starts again at the next STX (LF for
// parallax), a line form at the next terminator or silence. A frame buffer holds
// 64 bytes; what is longer is one fault and is discarded to the next terminator.
// A fault asks the person to try again when at least eight bytes of a frame had
// come, so that noise on the wire never speaks. Noise is reported at most ten
// times a second.
//
// Readers repeat the frame while the card stays in the field. Equal frames are one
// tap until there were 800 ms of silence between two of them.
//
// # The port
//
// The port is opened by a stable path, such as one below /dev/serial/by-id, must
// be a serial device, and is taken for this program alone. What arrives in the
// first 200 ms is discarded: it may be half a frame. If the device goes away, or
// was never there, the reader is down, says so once, and opens it again with
// waits of 0.2 to 1 s, for ever. One goroutine owns the port and the parser. A read of
// a port waits for a byte, for the device to go, or for the end of the context, and
// nothing wakes up in between; one that cannot be interrupted takes half a second at
// most, so that Run ends within 0.6 s of its context.
//
// The serial library underneath (tarm/serial) cannot tell silence from a device
// that is gone: both are an end of file. So an end of file counts as silence only
// when it took at least 80 % of the read's timeout; three in a row that came
// sooner, or any other error, mean that the device is gone. Nothing that reads
// ahead or reads until full (bufio, io.ReadFull) may stand between.
//
// [Open] gives the same port to a chip that is spoken to, with the same rules.
package serialport
