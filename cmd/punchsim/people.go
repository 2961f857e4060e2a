package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"punchclock/queue/punch"
	"punchclock/sync/sandbox"
)

// std is where a run reads and writes.
type std struct {
	in       *os.File
	out, err io.Writer
}

// person is one row of a roster, as far as a simulator needs it.
type person struct {
	number, name, feishuID, signinID string
	badge                            punch.Badge // the first one; "" without
}

// demoRoster is the roster of a desk: made-up people with made-up badges.
const demoRoster = `employee_no,name,badges
000123,王小明,em:0A1B2C3D01
000124,陳美玲,em:0A1B2C3D02
000125,林志豪,em:0A1B2C3D03
001007,張雅婷,em:0A1B2C3D04
001008,李建宏,em:0A1B2C3D05
002001,黃淑芬,em:0A1B2C3D06
A0001,吳俊傑,em:0A1B2C3D07
A0042,劉怡君,em:0A1B2C3D08
000009,蔡佳穎,em:0A1B2C3D09
`

// unknownBadge is a card that nobody's roster holds.
const unknownBadge punch.Badge = "em:0A1B2C3DFF"

// readPeople reads a roster, or the demo's where path is empty.
func readPeople(path string) ([]person, error) {
	if path == "" {
		return parsePeople("the demo roster", strings.NewReader(demoRoster))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the roster: %w", err)
	}
	defer f.Close()
	return parsePeople(path, f)
}

func parsePeople(name string, r io.Reader) ([]person, error) {
	rows := csv.NewReader(r)
	head, err := rows.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: read the header: %w", name, err)
	}
	head[0] = strings.TrimPrefix(head[0], "\ufeff")
	number := slices.Index(head, "employee_no")
	if number < 0 {
		return nil, fmt.Errorf("%s: the header has no employee_no column", name)
	}
	field := func(row []string, column string) string {
		if i := slices.Index(head, column); i >= 0 {
			return strings.TrimSpace(row[i])
		}
		return ""
	}
	var people []person
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return people, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		p := person{number: strings.TrimSpace(row[number]), name: field(row, "name"), feishuID: field(row, "feishu_id"), signinID: field(row, "signin_id")}
		if first, _, _ := strings.Cut(field(row, "badges"), ";"); first != "" {
			if p.badge, err = punch.ParseBadge(first); err != nil {
				line, _ := rows.FieldPos(number)
				return nil, fmt.Errorf("%s: line %d: %w", name, line, err)
			}
		}
		people = append(people, p)
	}
}

// known are the people as the clouds want them.
func known(people []person) []sandbox.Person {
	out := make([]sandbox.Person, len(people))
	for i, p := range people {
		out[i] = sandbox.Person{Number: p.number, FeishuID: p.feishuID, SigninID: p.signinID}
	}
	return out
}

// badges are those of the people who have one.
func badges(people []person) []punch.Badge {
	var b []punch.Badge
	for _, p := range people {
		if p.badge != "" {
			b = append(b, p.badge)
		}
	}
	return b
}
