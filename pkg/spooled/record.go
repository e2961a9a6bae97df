// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spooled

import (
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/corefile"
	"example.io/coredump/pkg/spool"
	"example.io/coredump/pkg/storage"
)

// record is what the kernel said of a crash. The names are for others to fill in.
func record(m *spool.Meta, o *spool.Outcome) *v1alpha1.CoreDump {
	uid := m.UID
	d := &v1alpha1.CoreDump{
		Spec: v1alpha1.CoreDumpSpec{
			Process: v1alpha1.Process{
				Executable: m.Exe,
				Comm:       m.Comm,
				PID:        m.PID,
				HostPID:    m.HostPID,
				UID:        &uid,
				Signal:     m.Signal,
				SignalName: corefile.SignalName(int(m.Signal)),
				Time:       metav1.NewTime(crashTime(m).Truncate(time.Second)),
			},
			Capture: v1alpha1.Capture{Mode: v1alpha1.CaptureMode(m.Mode), Handler: m.Handler},
		},
		Status: v1alpha1.CoreDumpStatus{PromisedSize: o.PromisedSize},
	}
	if o.Truncated != "" {
		d.Status.Truncated, d.Status.TruncatedReason = true, sentence(o.Truncated)
	}
	return d
}

// id identifies the process for ever.
func id(m *spool.Meta) string {
	return storage.NewID(crashTime(m), m.BootID, strconv.FormatInt(m.HostPID, 10), strconv.FormatUint(m.StartTime, 10))
}

func crashTime(m *spool.Meta) time.Time { return time.Unix(0, m.CrashTime).UTC() }

// sentence says why a core is cut.
func sentence(r spool.Reason) string {
	switch r {
	case spool.ReasonKilled:
		return "The process was killed while its dump was taken (SIGKILL: a liveness probe, the end of the grace period, the OOM killer)."
	case spool.ReasonTooLarge:
		return "The dump is larger than the limit: its first bytes are kept."
	case spool.ReasonDeadline:
		return "Taking the dump took longer than a process may be held."
	case spool.ReasonStalled:
		return "No byte of the dump came for too long."
	case spool.ReasonNoSpace:
		return "There was no room for more of it on the node."
	case spool.ReasonAbandoned:
		return "What took the dump was killed."
	case spool.ReasonReadError:
		return "Reading the dump from the kernel failed."
	}
	return "It is incomplete: " + string(r) + "."
}
