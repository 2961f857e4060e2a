package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"punchclock/ui/web"
)

// label is what stands on one card's label. The sheet is also the list of ids that
// were given out: the only place, without a network, where two clocks of one id can
// be seen.
type label struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"`
	Image       string `json:"image"`
}

var labelData = regexp.MustCompile(`<script type="application/json">(.*)</script>`)

// readLabels reads the labels of a sheet; of one that is not there, none.
func readLabels(path string) (labels []label, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	m := labelData.FindSubmatch(b)
	if m == nil {
		return nil, fmt.Errorf("labels: %s is no sheet of labels: name another file with --labels", path)
	}
	if err := json.Unmarshal(m[1], &labels); err != nil {
		return nil, fmt.Errorf("labels: %s: %w; name another file with --labels", path, err)
	}
	return labels, nil
}

// writeLabels writes the whole sheet: 21 labels of 63 by 38 mm to a sheet of A4. No
// secret is on it.
func writeLabels(path string, labels []label) error {
	data, err := json.Marshal(labels) // which writes < as \u003c
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(`<!doctype html><html lang="zh-TW"><meta charset="utf-8"><title>punchclock</title><style>` +
		`@page{size:A4;margin:15mm 7mm}body{margin:0;font:9pt sans-serif;display:grid;grid-template-columns:repeat(3,63.5mm);gap:0 2.5mm}` +
		`article{height:38.1mm;box-sizing:border-box;padding:3mm;display:flex;gap:3mm;align-items:center;break-inside:avoid;overflow:hidden}` +
		`svg{width:28mm;flex:none}h1{font:bold 11pt monospace;margin:0 0 1mm;overflow-wrap:anywhere}p{margin:0 0 1mm}small{font-size:6pt;color:#555}</style>` +
		"\n" + `<script type="application/json">` + string(data) + "</script>\n")
	for _, l := range labels {
		code, err := web.DrawQR("punchclock " + l.ID + " " + l.Fingerprint)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "<article>%s<div><h1>%s</h1><p>%s</p><p>%s</p><small>%s</small></div></article>\n",
			code, html.EscapeString(l.ID), html.EscapeString(l.Name), l.Fingerprint, html.EscapeString(l.Image))
	}
	if err := (disk{}).put(path+".new", []byte(b.String()), 0o644); err != nil {
		return err
	}
	return (disk{}).rename(path+".new", path)
}
