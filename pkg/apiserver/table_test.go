// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

const asTable = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

// printed is a table as kubectl prints it, with "|" between columns.
func (f *fixture) printed(path string, wide bool) string {
	f.t.Helper()
	var table metav1.Table
	f.get("admin", path, &table, "Accept", asTable)
	var lines []string
	line := func(cell func(i int) any) {
		var cells []string
		for i, c := range table.ColumnDefinitions {
			if wide || c.Priority == 0 {
				cells = append(cells, fmt.Sprint(cell(i)))
			}
		}
		lines = append(lines, strings.Join(cells, "|"))
	}
	line(func(i int) any { return strings.ToUpper(table.ColumnDefinitions[i].Name) })
	for _, row := range table.Rows {
		line(func(i int) any { return row.Cells[i] })
	}
	return strings.Join(lines, "\n")
}

func TestTables(t *testing.T) {
	f := start(t)
	k := f.put("shop", "web-0", "app", 90, []byte("core"))
	odd := f.put("shop", "web-0", "sidecar", 5, []byte("core"), func(d *v1alpha1.CoreDump) {
		d.Spec.Process = v1alpha1.Process{Comm: "\x1b[31mred\n", Signal: 64, Time: d.Spec.Process.Time}
		d.Spec.NodeName, d.Spec.PodUID, d.Status.Truncated = "", "", true
	})
	for _, test := range []struct {
		path string
		wide bool
		want []string
	}{
		{"/coredumps", false, []string{
			"NAME|POD|CONTAINER|EXECUTABLE|SIGNAL|SIZE|AGE",
			k.Name() + "|web-0|app|server|SIGSEGV|4|90m",
			odd.Name() + `|web-0|sidecar|ESC|64|4|5m`,
		}},
		{"/coredumps/" + k.Name(), true, []string{
			"NAME|POD|CONTAINER|EXECUTABLE|SIGNAL|SIZE|AGE|NODE|STORED|TRUNCATED|POD-UID",
			k.Name() + "|web-0|app|server|SIGSEGV|4|90m|node-1|46|false|web-0-uid",
		}},
		{"/coredumps/" + odd.Name(), true, []string{
			"NAME|POD|CONTAINER|EXECUTABLE|SIGNAL|SIZE|AGE|NODE|STORED|TRUNCATED|POD-UID",
			odd.Name() + "|web-0|sidecar|ESC|64|4|5m|<none>|46|true|<none>",
		}},
		{"/coredumpendpoints", false, []string{
			"NAME|CONTAINERS|DUMPS|SIZE|NEWEST|AGE",
			"web-0|app,sidecar|2|8|5m|90m",
		}},
		{"/coredumpendpoints/web-0", true, []string{
			"NAME|CONTAINERS|DUMPS|SIZE|NEWEST|AGE|STORED|POD-UIDS",
			"web-0|app,sidecar|2|8|5m|90m|92|web-0-uid",
		}},
	} {
		got := f.printed(api+"/namespaces/shop"+test.path, test.wide)
		if strings.ContainsAny(got, "\x1b\r") {
			t.Errorf("%s can do something to a terminal: %q", test.path, got)
		}
		for _, red := range []string{`\x1b[31mred\n`, "?[31mred?"} { // as the record has it, or as the table makes it
			got = strings.ReplaceAll(got, red, "ESC")
		}
		if want := strings.Join(test.want, "\n"); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", test.path, got, want)
		}
	}
}

// kubectl asks for pages of 500 and puts the tables together.
func TestTablesKeepTheMetadataOfLists(t *testing.T) {
	f := start(t)
	some(f)
	var table metav1.Table
	f.get("admin", api+"/coredumps?limit=2", &table, "Accept", asTable)
	if len(table.Rows) != 2 || table.Continue == "" || table.ResourceVersion == "" || len(table.Rows[0].Object.Raw) == 0 {
		t.Errorf("got %d rows, %+v", len(table.Rows), table.ListMeta)
	}
}
