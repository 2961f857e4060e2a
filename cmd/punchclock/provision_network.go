package main

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
)

// words names what the section sets up, for a receipt.
func (n *networkConfig) words() string {
	if n == nil {
		return ""
	}
	how := func(v addressConfig) string {
		if v.Address == "" {
			return "DHCP"
		}
		return v.Address
	}
	s := "LAN " + how(n.Wired)
	if n.WiFi != nil {
		s += fmt.Sprintf(" · Wi-Fi %q (%s) %s", n.WiFi.SSID, n.WiFi.Country, how(n.WiFi.addressConfig))
	}
	return s
}

// wiredFile and radioFile are systemd-networkd's. An interface that is not there, or
// has no carrier, keeps nothing waiting.
func (n *networkConfig) wiredFile() []byte {
	return n.file("Type=ether\nKind=!*\n", n.Wired, 100)
}

func (n *networkConfig) radioFile() []byte {
	return n.file("Type=wlan\n", n.WiFi.addressConfig, 600)
}

// file writes the lines of one interface; of two with a way out the lower metric wins.
func (n *networkConfig) file(match string, v addressConfig, metric int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# From the card's punchclock.toml; the next one replaces it.\n[Match]\n%s\n[Link]\nRequiredForOnline=no\n\n[Network]\n", match)
	if v.Address == "" {
		b.WriteString("DHCP=yes\n")
	} else {
		fmt.Fprintf(&b, "Address=%s\n", v.Address)
	}
	for _, d := range v.DNS {
		fmt.Fprintf(&b, "DNS=%s\n", d)
	}
	for _, h := range n.NTP {
		fmt.Fprintf(&b, "NTP=%s\n", h)
	}
	if v.Gateway != "" {
		fmt.Fprintf(&b, "\n[Route]\nGateway=%s\nMetric=%d\n", v.Gateway, metric)
	}
	if v.Address == "" {
		fmt.Fprintf(&b, "\n[DHCPv4]\nRouteMetric=%d\n\n[IPv6AcceptRA]\nRouteMetric=%[1]d\n", metric)
	}
	return []byte(b.String())
}

// file is wpa_supplicant's, for WPA2. The name goes out as bytes and the passphrase as
// the key made of it (IEEE 802.11, annex J.4), so that no character of either means
// something there.
func (w *wifiConfig) file(passphrase string) []byte {
	key := passphrase
	if len(key) != 64 {
		k, err := pbkdf2.Key(sha1.New, passphrase, []byte(w.SSID), 4096, 32)
		if err != nil {
			panic(err) // only for a length that no key has
		}
		key = hex.EncodeToString(k)
	}
	hidden := 0
	if w.Hidden {
		hidden = 1
	}
	return fmt.Appendf(nil, "# From the card's punchclock.toml; the next one replaces it.\nctrl_interface=/run/wpa_supplicant\ncountry=%s\nnetwork={\n\tssid=%x\n\tscan_ssid=%d\n\tkey_mgmt=WPA-PSK WPA-PSK-SHA256\n\tpsk=%s\n}\n",
		w.Country, w.SSID, hidden, strings.ToLower(key))
}
