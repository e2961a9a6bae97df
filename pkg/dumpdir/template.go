// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package dumpdir

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"example.io/coredump/pkg/storage"
)

// Template understands the names of core files: it is a core_pattern read backwards. See core(5).
type Template struct {
	text   string
	re     *regexp.Regexp
	fields []byte
}

const (
	// textField matches the longest string that still lets the rest match, so names are read from the right: %e
	// may contain what separates the fields.
	textField   = `((?s:.+))`
	numberField = `([0-9]{1,20})`
)

// specifiers maps the specifiers of core(5) to what they match.
var specifiers = map[byte]string{
	'e': textField, 'f': textField, 'E': textField, 'h': textField,
	't': numberField, 'p': numberField, 'P': numberField, 'i': numberField, 'I': numberField, 's': numberField,
	'u': numberField, 'g': numberField, 'd': numberField, 'c': numberField, 'C': numberField,
	'F': `([0-9]*)`,
}

// allowedSpecifiers is for people.
const allowedSpecifiers = "%e %f %E %h %t %p %P %i %I %s %u %g %d %c %C %F %%"

// ParseTemplate understands a template, for example core-%e-%t-%p-%s. Its errors say what is allowed.
func ParseTemplate(s string) (*Template, error) {
	t := &Template{text: s}
	switch {
	case s == "":
		return nil, fmt.Errorf("is empty: must be a file name pattern such as core.%%p")
	case strings.Contains(s, "/"):
		return nil, fmt.Errorf("%q contains a slash: must be a pattern for the last component of a path", s)
	case len(s) > 127:
		return nil, fmt.Errorf("is %d bytes long: at most 127 are allowed, as in the kernel", len(s))
	}
	pattern := strings.Builder{}
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			pattern.WriteString(regexp.QuoteMeta(s[i : i+1]))
			continue
		}
		i++
		switch {
		case i < len(s) && s[i] == '%':
			pattern.WriteByte('%')
		case i == len(s) || specifiers[s[i]] == "":
			return nil, fmt.Errorf("%q has an unknown specifier %q: allowed are %s", s, s[i-1:min(i+1, len(s))], allowedSpecifiers)
		case strings.IndexByte(string(t.fields), s[i]) >= 0:
			return nil, fmt.Errorf("%q has %%%c twice: each specifier is allowed once", s, s[i])
		default:
			pattern.WriteString(specifiers[s[i]])
			t.fields = append(t.fields, s[i])
		}
	}
	re, err := regexp.Compile(`^(?:` + pattern.String() + `)(?:\.(gz|zst))?$`)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", s, err)
	}
	t.re = re
	return t, nil
}

func (t *Template) String() string { return t.text }

// Fields are what a name says, by the letter of the specifier. Everything in them was chosen by whoever made the file.
type Fields struct {
	text  map[byte]string
	Codec storage.Codec
}

// Match reads a file name. It gives ok=false for a name that is not of the template.
func (t *Template) Match(name string) (f Fields, ok bool) {
	m := t.re.FindStringSubmatch(name)
	if m == nil {
		return f, false
	}
	f.text = make(map[byte]string, len(t.fields))
	for i, c := range t.fields {
		f.text[c] = m[i+1]
	}
	f.Codec = storage.Codec(m[len(m)-1])
	return f, true
}

// Text is the field, or "" where the template has none.
func (f Fields) Text(specifier byte) string { return f.text[specifier] }

// Number is the field as a number from 0 to most. Where the template has none, or it is larger, it is 0 and not ok.
func (f Fields) Number(specifier byte, most int64) (n int64, ok bool) {
	n, err := strconv.ParseInt(f.text[specifier], 10, 64)
	if err != nil || n > most {
		return 0, false
	}
	return n, true
}
