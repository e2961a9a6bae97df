// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package tell says what became of crashes: in Events on pods and on the node, in metrics, and in one line in the log for each. Nothing
// here grows with the number of crashes, pods or namespaces.
package tell

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"example.io/coredump/pkg/spool"
)

// Dump is what is told about. Texts may be hostile.
type Dump struct {
	// Namespace, Pod, PodUID and Container say whose it is; Namespace is empty where that is not known.
	Namespace, Pod, PodUID, Container string
	// Name is that of the CoreDump object, which is there once the dump is uploaded.
	Name string
	// Mode is pipe or socket.
	Mode string
	// Signal is its name, such as SIGSEGV; Executable a path or a name; either is empty where it is not known.
	Signal, Executable string
	// Entry is the name of the entry in the spool.
	Entry string
	// Outcome is how the delivery ended.
	Outcome spool.Outcome
	// Kept and SuppressedCount say how the workload of the pod did since Since; nothing is said of them where Since is zero.
	Kept, SuppressedCount int
	Since                 time.Time
}

// unknown is the namespace of dumps whose owner is not known, in metrics.
const unknown = "_unknown"

// maxNote bounds the note of an Event in bytes. The API server takes 1024 (NoteLengthLimit in pkg/apis/core/validation/events.go of Kubernetes).
const maxNote = 1000

// crash says who crashed, such as "SIGSEGV in /app/server (container app)".
func (d *Dump) crash() string {
	signal, exe := d.Signal, d.Executable
	if signal == "" {
		signal = "Crash"
	}
	if exe == "" {
		exe = "a process"
	}
	s := printable(signal, 32) + " in " + printable(exe, 128)
	if d.Container != "" {
		s += " (container " + printable(d.Container, 63) + ")"
	}
	return s
}

// captured is the note for a dump that was kept.
func (d *Dump) captured() string {
	s := fmt.Sprintf("%s: core dump of %s captured", d.crash(), bytes(d.Outcome.Size))
	if d.Name == "" {
		return note(s)
	}
	s += " as " + printable(d.Name, 400) + ", there once it is uploaded. "
	return note(s, "To get it: "+get(d.Namespace, d.Name))
}

// get is a command that works with kubectl alone.
func get(namespace, name string) string {
	return fmt.Sprintf(`kubectl get --raw /apis/coredump.example.io/v1alpha1/namespaces/%s/coredumps/%s/dump > coredump.tar.gz`, printable(namespace, 63), printable(name, 400))
}

// truncated is the note for a dump that was cut.
func (d *Dump) truncated() string {
	o := &d.Outcome
	s := fmt.Sprintf("%s: the core dump is truncated: %s", d.crash(), explain(o.Truncated))
	if o.PromisedSize > 0 {
		s += fmt.Sprintf("; %s of %s were kept", bytes(o.Size), bytes(o.PromisedSize))
	}
	if d.Name != "" {
		return note(s+".", "Its name is "+printable(d.Name, 400)+".")
	}
	return note(s)
}

// suppressed is the note for a dump that was not taken.
func (d *Dump) suppressed() string {
	s := fmt.Sprintf("%s: no core dump was kept: %s", d.crash(), explain(d.Outcome.Suppressed))
	if d.Since.IsZero() {
		return note(s)
	}
	return note(s+".", fmt.Sprintf("Captured %d, suppressed %d of this workload on this node since %s.", d.Kept, d.SuppressedCount, d.Since.UTC().Format("15:04 UTC")))
}

// reasons are the words of spool in sentences.
var reasons = map[spool.Reason]string{
	spool.ReasonKilled:      "the process was killed while it dumped",
	spool.ReasonTooLarge:    "it is larger than allowed",
	spool.ReasonDeadline:    "it took longer than a process may be held",
	spool.ReasonStalled:     "the kernel delivered nothing for too long",
	spool.ReasonNoSpace:     "the node has not enough room for it",
	spool.ReasonAbandoned:   "the program that took it was ended",
	spool.ReasonReadError:   "it could not be read from the kernel",
	spool.ReasonOptedOut:    "the pod or its namespace does not want any",
	spool.ReasonRateLimit:   "the workload had its dumps of this hour",
	spool.ReasonRepeated:    "there are enough of this place in the code in this hour",
	spool.ReasonConcurrency: "too many dumps were being taken at once",
	spool.ReasonNotCore:     "what came was no ELF core",
	spool.ReasonEmpty:       "the kernel delivered nothing",
}

var (
	truncatedReasons = []spool.Reason{
		spool.ReasonKilled, spool.ReasonTooLarge, spool.ReasonDeadline, spool.ReasonStalled, spool.ReasonNoSpace, spool.ReasonAbandoned,
		spool.ReasonReadError, other,
	}
	suppressedReasons = []spool.Reason{
		spool.ReasonOptedOut, spool.ReasonRateLimit, spool.ReasonRepeated, spool.ReasonConcurrency, spool.ReasonNotCore, spool.ReasonEmpty,
		spool.ReasonNoSpace, spool.ReasonTooLarge, other,
	}
)

// other is the reason of what nobody foresaw: reasons come from files.
const other spool.Reason = "other"

func explain(r spool.Reason) string {
	if s, known := reasons[r]; known {
		return s
	}
	return printable(string(r), 32)
}

func bytes(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// note joins sentences as long as they fit.
func note(first string, more ...string) string {
	s := printable(first, maxNote)
	for _, m := range more {
		if len(s)+1+len(m) <= maxNote {
			s = strings.TrimRight(s, " ") + " " + m
		}
	}
	return s
}

// printable gives s with everything replaced that is not printable ASCII, and at most most bytes of it.
func printable(s string, most int) string {
	long := len(s) > most
	b := []byte(s[:min(len(s), most)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	const cut = "..."
	if long && most > len(cut) {
		copy(b[most-len(cut):], cut)
	}
	return string(b)
}
