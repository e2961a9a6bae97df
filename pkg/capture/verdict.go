// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package capture takes dumps from the kernel into the spool: one core behind the pipe helper and the socket. It imports nothing of
// Kubernetes, for corepipe consists of it.
package capture

import "example.io/coredump/pkg/spool"

// Request asks the node handler what to do with a crash. corepipe sends it, with a pidfd of the process and an O_PATH descriptor of
// its root directory, over the socket of the spool, before it reads from the kernel; in mode socket it is a call.
type Request struct {
	// Entry is the name of the entry in incoming.
	Entry string     `json:"entry"`
	Meta  spool.Meta `json:"meta"`
}

// Action is what is done with a dump.
type Action string

// The actions.
const (
	// Keep takes the dump, within the limits of the verdict.
	Keep Action = "keep"
	// Drop lets the process go without reading its dump.
	Drop Action = "drop"
	// Forward gives the dump to the handler that the host had before us.
	Forward Action = "forward"
)

// Verdict answers a Request. Its zero value is not valid; where no verdict comes in time, the capture goes on with Keep and the limits of its own
// configuration.
type Verdict struct {
	Action Action `json:"action"`
	// Reason is why the dump is dropped.
	Reason spool.Reason `json:"reason,omitempty"`
	// MaxSize is the largest core that is taken whole, in bytes; 0: the configured one, which it can only lower.
	MaxSize int64 `json:"maxSize,omitempty"`
	// Sites are places of crashes of which there have been enough: a dump of one of them is suppressed (ReasonRepeated) once
	// its notes have been read.
	Sites []string `json:"sites,omitempty"`
}
