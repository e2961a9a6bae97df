// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bufio"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"k8s.io/apimachinery/pkg/util/duration"

	"example.io/coredump/pkg/retention"
)

// tableRows bounds what the table keeps in memory to align its columns.
const tableRows = 1000

// printPlan prints what would be removed, by namespace, and the totals. Names come from keys that have been checked: they
// hold nothing but letters, digits, dashes and dots.
func printPlan(to io.Writer, p *retention.Plan) error {
	buf := bufio.NewWriter(to)
	w := tabwriter.NewWriter(buf, 0, 0, 2, ' ', 0)
	for rest := p.Actions; len(rest) > 0; {
		namespace := rest[0].Key().Namespace
		n, total := 0, int64(0)
		for n < len(rest) && rest[n].Key().Namespace == namespace {
			total += rest[n].Bytes()
			n++
		}
		fmt.Fprintf(buf, "Namespace %s: %d, %s\n", namespace, n, size(total))
		fmt.Fprintln(w, "  POD\tCONTAINER\tID\tSIZE\tAGE\tREASON")
		for i, a := range rest[:n] {
			printAction(w, p, a)
			if i%tableRows == tableRows-1 {
				w.Flush()
			}
		}
		w.Flush()
		fmt.Fprintln(buf)
		rest = rest[n:]
	}
	removed := p.Removed()
	fmt.Fprintln(w, "RULE\tWOULD REMOVE\tBYTES")
	for _, rule := range retention.Rules() {
		if c, ok := removed[rule]; ok {
			fmt.Fprintf(w, "%s\t%d\t%s\n", rule, c.N, size(c.Bytes))
		}
	}
	total := sum(removed)
	fmt.Fprintf(w, "all\t%d\t%s\n", total.N, size(total.Bytes))
	w.Flush()
	fmt.Fprintf(buf, "\nWould keep %d dumps, %s. Dry run: nothing was removed.\n", p.Kept.N, size(p.Kept.Bytes))
	return buf.Flush()
}

func printAction(w io.Writer, p *retention.Plan, a retention.Action) {
	k, bytes := a.Key(), size(a.Bytes())
	if a.Upload != nil {
		bytes = "unknown"
	}
	fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", k.Pod, k.Container, k.ID, bytes, age(p.Now, a.At()), p.Policy.Reason(a.Rule, k.Namespace))
}

func size(n int64) string { return humanize.IBytes(uint64(n)) }

func age(now, t time.Time) string { return duration.HumanDuration(now.Sub(t)) }
