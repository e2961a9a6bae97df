// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"time"

	"example.io/coredump/pkg/spool"
)

const (
	// hour is how long dumps are counted, from the first crash on. The first ones are the most useful: they are kept, and what
	// follows is counted until the hour is over.
	hour = time.Hour
	// maxSites bounds the places that are remembered of a workload, maxSite the length of their names in bytes.
	maxSites, maxSite = 32, 128
	// maxRefunds and maxNamespaceRefunds bound how many captures that came to nothing are free in an hour: taking them costs little, but a
	// thousand a second would cost a lot.
	maxRefunds, maxNamespaceRefunds = 256, 4096
)

// window is an hour of a workload or a namespace.
type window struct {
	start time.Time
	// kept counts dumps that are kept, or being taken.
	kept, suppressed, refunded int
	sites                      []site
}

// site is a place in the code where crashes happened.
type site struct {
	site string
	kept int
}

// over tells whether the window has ended, or is from a time when the clock went wrong.
func (w *window) over(now time.Time) bool {
	age := now.Sub(w.start)
	return age >= hour || age <= -hour
}

func (w *window) full(most, refunds int) bool { return w.kept >= most || w.refunded >= refunds }

func (w *window) counts() Counts { return Counts{w.start, w.kept, w.suppressed} }

// end takes the outcome of a capture into account that was counted as kept, and tells whether it was.
func (w *window) end(o *spool.Outcome) bool {
	if o.Suppressed != "" || o.Size == 0 {
		w.suppressed++
		// The hour may have changed since it was counted.
		w.kept = max(w.kept-1, 0)
		w.refunded++
		return false
	}
	return true
}

// at counts a kept dump of a place.
func (w *window) at(place string) {
	if place == "" || len(place) > maxSite {
		return
	}
	for i := range w.sites {
		if w.sites[i].site == place {
			w.sites[i].kept++
			return
		}
	}
	if len(w.sites) < maxSites {
		w.sites = append(w.sites, site{place, 1})
	}
}
