// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package table makes the tables that kubectl get prints.
package table

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metatable "k8s.io/apimachinery/pkg/api/meta/table"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
)

// maxCell bounds a cell in bytes. kubectl -o yaml shows all of it.
const maxCell = 128

// None is printed for what is not known.
const None = "<none>"

// Column makes a column of strings. Wide columns are printed with -o wide only.
func Column(name, description string, wide bool) metav1.TableColumnDefinition {
	c := metav1.TableColumnDefinition{Name: name, Type: "string", Description: description}
	if name == "Name" {
		c.Format = "name"
	}
	if wide {
		c.Priority = 1
	}
	return c
}

// Of makes the table of an object or a list, with a row for each object.
func Of(obj, options runtime.Object, columns []metav1.TableColumnDefinition, row func(obj runtime.Object) []any) (*metav1.Table, error) {
	t := &metav1.Table{}
	if o, ok := options.(*metav1.TableOptions); !ok || !o.NoHeaders {
		t.ColumnDefinitions = columns
	}
	if m, err := meta.ListAccessor(obj); err == nil {
		t.ResourceVersion = m.GetResourceVersion()
		t.Continue = m.GetContinue()
		t.RemainingItemCount = m.GetRemainingItemCount()
	} else if m, err := meta.CommonAccessor(obj); err == nil {
		t.ResourceVersion = m.GetResourceVersion()
	}
	var err error
	t.Rows, err = metatable.MetaToTableRow(obj, func(obj runtime.Object, _ metav1.Object, _, _ string) ([]any, error) {
		return row(obj), nil
	})
	return t, err
}

// Text is a string that somebody else made up, in printable ASCII and of bounded length, so that it cannot do anything to a terminal.
func Text(s string) string {
	if s == "" {
		return None
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), maxCell)])
	return s
}

// Age is how long ago t was.
func Age(t, now time.Time) string {
	if t.IsZero() {
		return None
	}
	return duration.HumanDuration(now.Sub(t))
}

// Size is a number of bytes in at most six characters, in units of 1024: 0, 1023, 1.5Ki, 12.0Gi.
func Size(n int64) string {
	if n < 1024 {
		return fmt.Sprint(n)
	}
	units, f := "KMGTPE", float64(n)/1024
	for len(units) > 1 && f >= 1023.95 { // what would be printed as 1024.0
		units, f = units[1:], f/1024
	}
	return fmt.Sprintf("%.1f%ci", f, units[0])
}
