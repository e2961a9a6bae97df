// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
)

func TestClassify(t *testing.T) {
	const (
		mit = "Permission is hereby granted, free of charge, to any person obtaining\na copy of this software ... The above copyright notice and this permission notice shall be included in all"
		bsd = "# Redistribution and use in source and binary forms, with or without\n# modification, are permitted provided that ...\n#   * Redistributions of source code must retain the above copyright\n# notice"
		gpl = "GNU GENERAL PUBLIC LICENSE Version 3 Copyright (C) 2007 Free Software Foundation, Inc."
	)
	for name, tc := range map[string]struct {
		text    string
		want    []string
		allowed bool
	}{
		"a line break within a sentence":           {mit, []string{"MIT"}, true},
		"a stroke between words":                   {"Permission to use, copy, modify, and/or distribute this software for any\npurpose with or without fee is hereby granted", []string{"ISC"}, true},
		"a text in a comment":                      {bsd, []string{"BSD"}, true},
		"several licences in one file":             {mit + "\n" + bsd, []string{"MIT", "BSD"}, true},
		"a forbidden one":                          {gpl, []string{"GPL"}, false},
		"a forbidden one beside an allowed one":    {mit + "\n" + gpl, []string{"MIT", "GPL"}, false},
		"Mozilla's, which names the GNU licences":  {"Mozilla Public License Version 2.0 ... means either the GNU General Public License ... Free Software Foundation", []string{"MPL-2.0"}, true},
		"a text that nobody knows":                 {"All rights reserved.", nil, false},
		"the Apache licence under its other names": {"Licensed under the Apache License, Version 2.0", []string{"Apache-2.0"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, allowed := classify(tc.text)
			if !slices.Equal(got, tc.want) || allowed != tc.allowed {
				t.Errorf("got %v, %v; want %v, %v", got, allowed, tc.want, tc.allowed)
			}
		})
	}
}
