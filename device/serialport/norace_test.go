//go:build !race

package serialport

const raceEnabled = false
