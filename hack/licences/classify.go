// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"strings"
)

// licence is known by sentences that its text has and that the others lack.
type licence struct {
	name    string
	allowed bool
	marks   []string
}

// licences we know. What none of them fits is refused, so somebody looks at it.
var licences = []licence{
	{"Apache-2.0", true, []string{"apache license", "version 2.0"}},
	{"MIT", true, []string{"permission is hereby granted, free of charge, to any person obtaining a copy", "the above copyright notice and this permission notice shall be included"}},
	{"BSD", true, []string{"redistribution and use in source and binary forms, with or without modification, are permitted", "redistributions of source code must retain the above copyright notice"}},
	{"ISC", true, []string{"permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted"}},
	{"ISC", true, []string{"permission to use, copy, modify, and distribute this software for any purpose with or without fee is hereby granted"}},
	{"MPL-2.0", true, []string{"mozilla public license version 2.0"}},
	{"MPL-2.0", true, []string{"mozilla public license, version 2.0"}},
	{"GPL", false, []string{"gnu general public license", "free software foundation"}},
	{"AGPL", false, []string{"gnu affero general public license", "free software foundation"}},
	{"LGPL", false, []string{"gnu lesser general public license", "free software foundation"}},
	{"SSPL", false, []string{"server side public license"}},
	{"BUSL", false, []string{"business source license"}},
	{"Commons Clause", false, []string{"commons clause"}},
	{"Elastic", false, []string{"elastic license"}},
}

// spaces are what may stand between two words of a text that somebody has broken into lines, or made a comment of.
var spaces = regexp.MustCompile(`(\s|[*#>]|//)+`)

// classify names the licences in a text. A text with a forbidden one is not allowed, whatever else is in it; the Mozilla licence
// names the GNU licences, as those that it is compatible with.
func classify(text string) (names []string, allowed bool) {
	text = spaces.ReplaceAllString(strings.ToLower(text), " ")
	allowed = true
	for _, l := range licences {
		fits := true
		for _, mark := range l.marks {
			fits = fits && strings.Contains(text, mark)
		}
		mozilla := len(names) > 0 && names[len(names)-1] == "MPL-2.0"
		if !fits || mozilla && (!l.allowed || l.name == "MPL-2.0") {
			continue
		}
		names = append(names, l.name)
		allowed = allowed && l.allowed
	}
	return names, allowed && len(names) > 0
}
