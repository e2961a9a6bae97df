// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package spool is the node's queue of dumps that the kernel delivered: a directory that only root can enter, in which each dump is a
// directory of its own, an entry. It imports nothing of Kubernetes, for corepipe writes it on the host.
//
//	<spool>/incoming/<entry>/   being written; its writer holds a flock(2) on the entry's directory
//	<spool>/ready/<entry>/      finished, by rename(2) of the directory, after everything in it was synced
//	<spool>/aside/<entry>/      kept because nobody could make sense of it
//	<spool>/gone/<entry>/       being removed
//	<spool>/slots/<n>           locked by those who take a dump now
//	<spool>/lost                how many dumps had no room for an entry
//	<spool>/socket              the node handler's, see package notify
//
// An entry holds:
//
//	meta.json      Meta: what the kernel said of the crash; written before the first byte of the core is read
//	core           the core as it came, uncompressed; pages of zeros are holes
//	outcome.json   Outcome: how the delivery ended; written last
//	identity.json  whose it is (package identity), where the node handler found out in time
//	context/...    what else was known of process and pod: files for the context bundle (package bundle)
//
// Whatever moment its writer is killed at, an entry in incoming without a lock is one that will not become more: Salvage finishes it.
package spool

// Names of the files of an entry.
const (
	MetaFile     = "meta.json"
	CoreFile     = "core"
	OutcomeFile  = "outcome.json"
	IdentityFile = "identity.json"
	ContextDir   = "context"
)

// Meta is what the kernel said of a crash. Everything in it comes from the kernel's arguments and from /proc/<HostPID>,
// read while a pidfd showed that it is still that process. Texts that the process controls (Comm, Exe) are as they came, of bounded length: who shows
// them to people reduces them to printable ASCII.
type Meta struct {
	// Mode is pipe or socket.
	Mode string `json:"mode"`
	// BootID is /proc/sys/kernel/random/boot_id.
	BootID string `json:"bootID"`
	// HostPID and HostTID are the ids of process and crashing thread in the initial PID namespace (%P, %I); PID and TID those in their
	// own (%p, %i), 0 where not known.
	HostPID int64 `json:"hostPID"`
	HostTID int64 `json:"hostTID,omitempty"`
	PID     int64 `json:"pid,omitempty"`
	TID     int64 `json:"tid,omitempty"`
	// StartTime is field 22 of /proc/<pid>/stat, in clock ticks since boot. Together with BootID and HostPID it identifies
	// the process for ever. 0 where it could not be read.
	StartTime uint64 `json:"startTime,omitempty"`
	// UID and GID are the real ids in the initial user namespace (%u, %g).
	UID int64 `json:"uid"`
	GID int64 `json:"gid"`
	// Signal is the number of the signal (%s); 0 where the kernel did not say (socket).
	Signal int32 `json:"signal,omitempty"`
	// Dumpable is %d, see PR_SET_DUMPABLE in prctl(2): 1 for ordinary processes, 2 for those that root alone may look at.
	Dumpable int32 `json:"dumpable,omitempty"`
	// CrashTime is when it crashed, in Unix nanoseconds; %t gives whole seconds.
	CrashTime int64 `json:"crashTime"`
	// Comm is the name of the crashing thread (%e), Exe what /proc/<pid>/exe links to, in the container's own mount namespace.
	Comm string `json:"comm,omitempty"`
	Exe  string `json:"exe,omitempty"`
	// Cgroup is /proc/<pid>/cgroup as seen from the initial cgroup namespace, at most 8 KiB; "" where it could not be read.
	Cgroup string `json:"cgroup,omitempty"`
	// Verified is true where the process was still the one that crashed after the last read in /proc. False means that what is said
	// here may be about another process: whose the dump is must not be concluded from it.
	Verified bool `json:"verified"`
	// CoreLimit is RLIMIT_CORE of the process (%c), -1 for no limit.
	CoreLimit int64 `json:"coreLimit,omitempty"`
	// Handler is the version of what took the dump.
	Handler string `json:"handler,omitempty"`
}

// Outcome is how the delivery of a dump ended.
type Outcome struct {
	// Size is the length of the core in bytes, and PromisedSize what its own ELF header promises; 0 where that could not be read.
	Size         int64 `json:"size"`
	PromisedSize int64 `json:"promisedSize,omitempty"`
	// Truncated says, in a word (see the Reason constants), why Size is less than PromisedSize; "" where it is not.
	Truncated Reason `json:"truncated,omitempty"`
	// Suppressed says in a word why there is no core at all; "" where there is one.
	Suppressed Reason `json:"suppressed,omitempty"`
	// Site identifies the place of the crash (see package corefile); "" where it could not be read.
	Site string `json:"site,omitempty"`
	// FirstByteMicros is the time from the start of the handler to the first byte of the core, HoldMicros to the moment the crashed process
	// was let go, in microseconds.
	FirstByteMicros int64 `json:"firstByteMicros,omitempty"`
	HoldMicros      int64 `json:"holdMicros,omitempty"`
	// Answered is true where the node handler gave a verdict in time.
	Answered bool `json:"answered,omitempty"`
	// Error is what went wrong, for people.
	Error string `json:"error,omitempty"`
}

// Reason says why a dump is cut or missing. It is the value of a metric's label and part of Events.
type Reason string

// Reasons for cutting a dump (Truncated).
const (
	ReasonKilled    Reason = "killed"     // the stream ended early: the crashing process was killed while it dumped, or its cgroup frozen
	ReasonTooLarge  Reason = "too-large"  // the promised size is over the limit
	ReasonDeadline  Reason = "deadline"   // it took longer than a process may be held
	ReasonStalled   Reason = "stalled"    // no byte came for too long
	ReasonNoSpace   Reason = "no-space"   // the spool or its file system ran full
	ReasonAbandoned Reason = "abandoned"  // the writer itself was killed
	ReasonReadError Reason = "read-error" // reading the stream failed
)

// Reasons for taking no dump at all (Suppressed), beside ReasonNoSpace and ReasonTooLarge.
const (
	ReasonOptedOut    Reason = "opted-out"   // the pod or its namespace does not want dumps
	ReasonRateLimit   Reason = "rate-limit"  // the workload had its dumps of this hour
	ReasonRepeated    Reason = "repeated"    // so did this place in its code
	ReasonConcurrency Reason = "concurrency" // too many dumps are being taken at once
	ReasonNotCore     Reason = "not-a-core"  // what came was no ELF core (sandboxed runtimes)
	ReasonEmpty       Reason = "empty"       // nothing came
)
