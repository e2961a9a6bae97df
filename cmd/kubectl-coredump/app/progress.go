// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"example.io/coredump/pkg/fetch"
	"example.io/coredump/pkg/registry/table"
)

// barWidth is the number of characters of a progress bar.
const barWidth = 24

// tick is how often a terminal is written to.
const tick = 200 * time.Millisecond

// progress tells how far a download is.
type progress struct {
	meter    *fetch.Meter
	out      io.Writer
	terminal bool
	began    time.Time
	width    int // of the line on the terminal
}

// watchProgress tells how far the download is until end is called, which waits for the last line.
func (a *App) watchProgress(m *fetch.Meter) (end func()) {
	p := &progress{meter: m, out: a.ErrOut, terminal: a.Terminal(a.ErrOut), began: time.Now()}
	every := a.Report
	if p.terminal {
		every = tick
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				p.show(time.Now())
			case <-done:
				p.show(time.Now())
				p.endLine()
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

func (p *progress) show(now time.Time) {
	if err := p.meter.Trouble(); err != nil {
		p.endLine()
		fmt.Fprintf(p.out, "trying again: %s\n", text(message(err)))
	}
	total, had, fetched := p.meter.Total(), p.meter.Had(), p.meter.Fetched()
	if total == 0 {
		return
	}
	line := p.line(total, had, fetched, now.Sub(p.began))
	if !p.terminal {
		fmt.Fprintln(p.out, line)
		return
	}
	fmt.Fprintf(p.out, "\r%s%s", line, strings.Repeat(" ", max(0, p.width-len(line))))
	p.width = len(line)
}

// endLine goes on to a fresh line where one is open on the terminal.
func (p *progress) endLine() {
	if p.width > 0 {
		fmt.Fprintln(p.out)
		p.width = 0
	}
}

// line says how far it is, how fast, and for how long yet.
func (p *progress) line(total, had, fetched int64, took time.Duration) string {
	share := min(float64(had+fetched)/float64(total), 1)
	line := fmt.Sprintf("%3.0f%%  %s of %s", 100*share, table.Size(min(had+fetched, total)), table.Size(total))
	if p.terminal {
		n := int(share * barWidth)
		line = "[" + strings.Repeat("#", n) + strings.Repeat("-", barWidth-n) + "] " + line
	}
	if had > 0 {
		line += fmt.Sprintf(" (%s were there)", table.Size(had))
	}
	if seconds := took.Seconds(); seconds > 0 && fetched > 0 {
		rate := float64(fetched) / seconds
		line += fmt.Sprintf("  %s/s", table.Size(int64(rate)))
		if left := total - had - fetched; left > 0 {
			line += fmt.Sprintf("  %s left", duration.HumanDuration(time.Duration(float64(left)/rate*float64(time.Second))))
		}
	}
	return line + "  written " + table.Size(p.meter.Written())
}
