package roster

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"punchclock/queue"
	"punchclock/queue/punch"
)

// Columns of the file, in the order in which WriteCSV and the manual give them.
var columns = []string{"employee_no", "name", "badges", "pin", "feishu_id", "signin_id", "language", "active", "valid_from", "valid_to"}

const (
	mostBytes  = 32 << 20
	mostErrors = 20
)

// CSVError is one thing wrong with a file. Line and Col count from 1, Col in
// characters. Msg holds no name, no PIN and no whole badge.
type CSVError struct {
	File      string
	Line, Col int
	Msg       string
}

func (e CSVError) Error() string { return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg) }

// CSVErrors is all that is wrong with a file, in order; More counts those beyond
// the first twenty.
type CSVErrors struct {
	Errors []CSVError
	More   int
}

func (e *CSVErrors) Error() string {
	lines := make([]string, 0, len(e.Errors)+1)
	for _, err := range e.Errors {
		lines = append(lines, err.Error())
	}
	if e.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", e.More))
	}
	return strings.Join(lines, "\n")
}

var (
	numberForm   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,32}$`)
	powerForm    = regexp.MustCompile(`^[0-9]+([.,][0-9]+)?[eE]\+[0-9]+$`)
	pinForm      = regexp.MustCompile(`^[0-9]{4,12}$`)
	idForm       = regexp.MustCompile(`^[\x21-\x7e]{1,64}$`)
	languageForm = regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z]{2,4})?$`)
)

// ReadCSV reads a roster in CSV with a header line, the data of a file of that name.
//
// Columns are split by commas, or all by semicolons or tabs, and may come in any
// order; only employee_no is required; one that is not known is refused. badges alone may hold several values, split by semicolons.
// active is true, false, 1, 0, yes, no, or empty for true. Spaces around a value
// are dropped, names are brought to Unicode's composed form (NFC), a line without
// any value is skipped, a byte order mark and CRLF are accepted. Numbers and badges
// are text and keep their leading zeros. valid_from and valid_to are the first and the
// last day on which the number is the person's, 2026-11-21, in loc; or moments, 2026-11-21T08:30.
// A number may come twice where one ends before the other begins. Where the file has a pin column, it
// decides over everybody's PIN; where it has none, PINs stay as they are.
//
// A file with anything wrong gives no rows and *CSVErrors, which holds up to twenty
// mistakes; a number or a badge that occurs twice is told with both lines. So are two
// badges that are one card to a reader of the site; see [Cards].
func ReadCSV(name string, data []byte, cards Cards, loc *time.Location) ([]*Row, error) {
	p := &csvFile{name: name, cards: cards, loc: loc}
	rows := p.read(bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF")))
	if p.errs.Errors != nil {
		return nil, &p.errs
	}
	return rows, nil
}

type csvFile struct {
	name  string
	cards Cards
	loc   *time.Location
	data  []byte
	// starts holds the offset of each line.
	starts []int
	// last is the last row of each number, before of such a row the one before with the
	// same number.
	last   map[string]int
	before map[int]int
	errs   CSVErrors
}

// bad notes an error at a line and a column counted in bytes, both from 1.
func (p *csvFile) bad(line, col int, format string, args ...any) {
	if len(p.errs.Errors) == mostErrors {
		p.errs.More++
		return
	}
	if line >= 1 && line <= len(p.starts) {
		start := p.starts[line-1]
		end := min(start+max(col, 1)-1, len(p.data))
		col = 1 + utf8.RuneCount(p.data[start:end])
	}
	p.errs.Errors = append(p.errs.Errors, CSVError{p.name, max(line, 1), max(col, 1), fmt.Sprintf(format, args...)})
}

func (p *csvFile) read(data []byte) []*Row {
	if bytes.IndexByte(data, '\n') < 0 { // an old Macintosh ends lines with CR
		data = bytes.ReplaceAll(data, []byte{'\r'}, []byte{'\n'})
	}
	p.data = data
	p.starts = []int{0}
	var rest queue.Pace
	text := true // in UTF-8
	for at := 0; at < len(data); {
		rest.Step(len(p.starts))
		n := bytes.IndexByte(data[at:], '\n') + 1
		if n == 0 {
			n = len(data) - at
		} else {
			p.starts = append(p.starts, at+n)
		}
		text = text && utf8.Valid(data[at:at+n])
		at += n
	}
	switch {
	case len(data) > mostBytes:
		p.bad(1, 1, "the file is larger than 32 MiB; this is not a roster")
		return nil
	case bytes.HasPrefix(data, []byte("\xFF\xFE")), bytes.HasPrefix(data, []byte("\xFE\xFF")):
		p.bad(1, 1, `the file is UTF-16; save it as "CSV UTF-8"`)
		return nil
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		p.bad(1, 1, `the file is a workbook, not CSV; save it as "CSV UTF-8"`)
		return nil
	case !text:
		for i, start := range p.starts {
			line := data[start:]
			if i+1 < len(p.starts) {
				line = data[start:p.starts[i+1]]
			}
			if !utf8.Valid(line) {
				p.bad(i+1, 1, `the text is not UTF-8; save the file as "CSV UTF-8", or say in which encoding it is: %s`, strings.Join(Encodings(), ", "))
				return nil
			}
		}
	}
	c := csv.NewReader(bytes.NewReader(data))
	c.Comma = separator(data)
	c.FieldsPerRecord = -1
	c.ReuseRecord = true
	header, err := c.Read()
	if errors.Is(err, io.EOF) {
		p.bad(1, 1, "the file is empty; the first line names the columns: %s", strings.Join(columns, ","))
		return nil
	}
	if err != nil {
		p.syntax(err)
		return nil
	}
	where := p.header(c, header)
	if where == nil {
		return nil
	}
	width := len(header)
	// As many as there are lines, but for a file of many lines and few rows.
	most := min(len(p.starts), 100_000)
	rows := make([]*Row, 0, most)
	p.last, p.before = make(map[string]int, most), map[int]int{}
	badges := newIndex(p.cards, most)
	for n := 0; ; n++ {
		rest.Step(n)
		record, err := c.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			p.syntax(err)
			return nil
		}
		if !slices.ContainsFunc(record, func(s string) bool { return strings.TrimSpace(s) != "" }) {
			continue // a spreadsheet's empty line
		}
		line, _ := c.FieldPos(0)
		if len(record) != width {
			p.bad(line, 1, "this line has %d values, the header %d; a value that holds what splits the columns must be in quotes", len(record), width)
			continue
		}
		rows = append(rows, p.row(c, record, where, badges, rows))
	}
	if len(rows) == 0 && p.errs.Errors == nil {
		p.bad(len(p.starts), 1, "there is nobody in this file; an import would remove everybody")
	}
	return rows
}

// separator is what splits the columns: a comma, or what a spreadsheet of another
// country, or a copied table, has in its place. The first line tells, for no name of a
// column holds any of them.
func separator(data []byte) rune {
	first, _, _ := bytes.Cut(data, []byte{'\n'})
	if i := bytes.IndexAny(first, ",;\t"); i >= 0 {
		return rune(first[i])
	}
	return ','
}

func (p *csvFile) syntax(err error) {
	if pe, ok := errors.AsType[*csv.ParseError](err); ok {
		p.bad(pe.Line, pe.Column, "%v, in the row that begins on line %d; a value in quotes ends with a quote, and a quote inside it is written twice", pe.Err, pe.StartLine)
		return
	}
	p.bad(1, 1, "%v", err)
}

// header returns for each known column its place in the line, -1 if it is absent;
// nil where the file cannot be read.
func (p *csvFile) header(c *csv.Reader, header []string) []int {
	where := slices.Repeat([]int{-1}, len(columns))
	for i, h := range header {
		line, col := c.FieldPos(i)
		word := strings.ToLower(strings.TrimSpace(h))
		n := slices.Index(columns, word)
		switch {
		case n < 0 && word == "":
			p.bad(line, col, "a column has no name; the columns are %s", strings.Join(columns, ", "))
		case n < 0:
			p.bad(line, col, "column %q is not known; the columns are %s", strings.TrimSpace(h), strings.Join(columns, ", "))
		case where[n] >= 0:
			p.bad(line, col, "column %s is there twice", word)
		default:
			where[n] = i
		}
	}
	if where[0] < 0 {
		p.bad(1, 1, "column employee_no is missing")
	}
	if p.errs.Errors != nil {
		return nil
	}
	return where
}

// row reads one line. What is wrong is noted, and the row not used then.
func (p *csvFile) row(c *csv.Reader, record []string, where []int, badges *index, rows []*Row) *Row {
	line, _ := c.FieldPos(0)
	value := func(column int) string {
		if where[column] < 0 {
			return ""
		}
		return strings.TrimSpace(record[where[column]])
	}
	bad := func(column int, format string, args ...any) {
		l, col := c.FieldPos(where[column])
		p.bad(l, col, format, args...)
	}
	// A value is a piece of its whole line; where that holds a PIN, copies let it go.
	kept := func(s string) string { return s }
	if where[3] >= 0 {
		kept = strings.Clone
	}
	pin := kept(strings.TrimPrefix(value(3), "key:")) // whoever writes it as the badge of such a punch is
	row := &Row{Line: line, SetPIN: where[3] >= 0, PIN: pin, Employee: punch.Employee{
		Number: kept(value(0)), Name: kept(norm.NFC.String(value(1))),
		FeishuID: kept(value(4)), SigninID: kept(value(5)), Language: kept(value(6)),
	}}

	for i, to := range []*time.Time{&row.From, &row.To} {
		column := 8 + i
		at, err := p.day(value(column), column == 9)
		if err != nil {
			bad(column, "%s: %v", columns[column], err)
		}
		*to = at
	}
	if !row.From.IsZero() && !row.To.IsZero() && !row.From.Before(row.To) {
		bad(9, "valid_to is before valid_from")
	}
	first, twice := 0, false
	for i, ok := p.last[row.Number]; ok; i, ok = p.before[i] {
		if o := rows[i]; (o.To.IsZero() || row.From.IsZero() || row.From.Before(o.To)) && (row.To.IsZero() || o.From.IsZero() || o.From.Before(row.To)) {
			first, twice = o.Line, true
		}
	}
	switch {
	case row.Number == "":
		bad(0, "the employee number is empty")
	case powerForm.MatchString(row.Number):
		bad(0, "employee number %q was changed by a spreadsheet; format the column as text and write the number again", row.Number)
	case !numberForm.MatchString(row.Number):
		bad(0, "the employee number is not 1 to 32 letters, digits, dots, dashes and underscores")
	case twice:
		bad(0, "employee number %s is on line %d and on line %d; if they are two people, one after the other, say when in valid_from and valid_to", row.Number, first, line)
	default:
		if i, ok := p.last[row.Number]; ok {
			p.before[len(rows)] = i
		}
		p.last[row.Number] = len(rows)
	}
	switch {
	case utf8.RuneCountInString(row.Name) > 64:
		bad(1, "the name is longer than 64 characters")
	case strings.ContainsFunc(row.Name, func(r rune) bool { return !unicode.IsGraphic(r) }):
		bad(1, "the name holds an invisible character or a line break; type it again")
	}
	for text := range strings.SplitSeq(value(2), ";") {
		if strings.TrimSpace(text) == "" {
			continue
		}
		b, err := punch.ParseBadge(kept(text))
		switch {
		case err != nil && powerForm.MatchString(strings.TrimSpace(text)):
			bad(2, "a badge was changed by a spreadsheet; format the column as text and write <medium>:<value>, for example em:0A1B2C3D4E")
		case err != nil:
			bad(2, "%v", err)
		case p.cards.unread(b) != "":
			bad(2, "badge %s: %s", b.Masked(), p.cards.unread(b))
		case slices.Contains(row.Badges, b):
		default:
			row.Badges = append(row.Badges, b)
			if p.over(row) {
				break // whoever had the number before has no card any more
			}
			clash, twice := badges.add(int32(len(rows)), b)
			if !twice {
				break
			}
			first := rows[clash.A]
			if clash.BadgeA == b {
				bad(2, "badge %s is on line %d and on line %d (employees %s and %s); a badge belongs to one person: take it from whoever gave it back",
					b.Masked(), first.Line, line, named(first.Number), named(row.Number))
			} else {
				bad(2, "badge %s on line %d (employee %s) and badge %s on line %d (employee %s) are one card to a reader that tells %d bytes of it; give one of them another card, or take a rule out of badge.same_card",
					clash.BadgeA.Masked(), first.Line, named(first.Number), b.Masked(), line, named(row.Number), clash.Bytes)
			}
		}
	}
	if row.PIN != "" && !pinForm.MatchString(row.PIN) {
		bad(3, "the PIN is not 4 to 12 digits")
	}
	for column := 4; column <= 5; column++ {
		if id := value(column); id != "" && !idForm.MatchString(id) {
			bad(column, "%s is not 1 to 64 plain characters without spaces", columns[column])
		}
	}
	if row.Language != "" && !languageForm.MatchString(row.Language) {
		bad(6, "the language is not a code such as zh-TW, zh-CN or en")
	}
	switch strings.ToLower(value(7)) {
	case "", "true", "1", "yes":
		row.Active = true
	case "false", "0", "no":
	default:
		bad(7, "active is neither true nor false (1, 0, yes, no)")
	}
	return row
}

// over reports whether a row is of somebody whose time is given with its end: then
// somebody else may have the cards, and the roster decides which is whose.
func (p *csvFile) over(row *Row) bool { return !row.To.IsZero() }

// day reads a day or a moment; a day as the end of a time counts whole.
func (p *csvFile) day(s string, end bool) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, "2006/1/2"} {
		if t, err := time.ParseInLocation(layout, s, p.loc); err == nil {
			if end {
				t = t.AddDate(0, 0, 1)
			}
			return t.UTC(), nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, p.loc); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errors.New("write a day as 2026-11-21, or a moment as 2026-11-21T08:30")
}

// named is an employee number for a message, unless it is something else.
func named(number string) string {
	if !numberForm.MatchString(number) {
		return "?"
	}
	return number
}

// WriteCSV writes employees in the form that ReadCSV reads, without PINs and
// without their column: importing the file again keeps everybody's PIN. The columns of
// times are there where anybody has one; they are as of loc.
func WriteCSV(w io.Writer, employees []punch.Employee, loc *time.Location) error {
	c := csv.NewWriter(w)
	record := slices.DeleteFunc(slices.Clone(columns), func(s string) bool { return s == "pin" })
	timed := slices.ContainsFunc(employees, func(e punch.Employee) bool { return !e.From.IsZero() || !e.To.IsZero() })
	if !timed {
		record = record[:len(record)-2]
	}
	if err := c.Write(record); err != nil {
		return fmt.Errorf("roster: write: %w", err)
	}
	for _, e := range employees {
		badges := make([]string, len(e.Badges))
		for i, b := range e.Badges {
			badges[i] = string(b)
		}
		active := "true"
		if !e.Active {
			active = "false"
		}
		row := []string{e.Number, e.Name, strings.Join(badges, ";"), e.FeishuID, e.SigninID, e.Language, active}
		if timed {
			row = append(row, written(e.From, loc, false), written(e.To, loc, true))
		}
		if err := c.Write(row); err != nil {
			return fmt.Errorf("roster: write: %w", err)
		}
	}
	c.Flush()
	if err := c.Error(); err != nil {
		return fmt.Errorf("roster: write: %w", err)
	}
	return nil
}

// written is a time as day reads it: a day where it is a midnight.
func written(t time.Time, loc *time.Location, end bool) string {
	if t.IsZero() {
		return ""
	}
	t = t.In(loc)
	if y, m, d := t.Date(); time.Date(y, m, d, 0, 0, 0, 0, loc).Equal(t) {
		if end {
			t = t.AddDate(0, 0, -1)
		}
		return t.Format(time.DateOnly)
	}
	return t.Format(time.RFC3339Nano)
}
