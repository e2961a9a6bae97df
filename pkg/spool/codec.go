// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ErrRecord is the kind of the errors for a meta.json or an outcome.json that does not say what it must.
var ErrRecord = errors.New("unreadable record")

// DecodeMeta reads a meta.json. Fields that it does not know are ignored: the node handler may be older than what took the dump.
func DecodeMeta(b []byte) (*Meta, error) {
	m := &Meta{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrRecord, MetaFile, err)
	}
	if m.Mode == "" || m.HostPID < 0 || m.CrashTime <= 0 {
		return nil, fmt.Errorf("%w: %s: mode %.20q, pid %d, crash time %d", ErrRecord, MetaFile, m.Mode, m.HostPID, m.CrashTime)
	}
	return m, nil
}

// DecodeOutcome reads an outcome.json.
func DecodeOutcome(b []byte) (*Outcome, error) {
	o := &Outcome{}
	if err := json.Unmarshal(b, o); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrRecord, OutcomeFile, err)
	}
	if o.Size < 0 || o.PromisedSize < 0 {
		return nil, fmt.Errorf("%w: %s: size %d, promised %d", ErrRecord, OutcomeFile, o.Size, o.PromisedSize)
	}
	return o, nil
}

func encode(record any) []byte {
	b, err := json.Marshal(record)
	if err != nil {
		panic(err) // Meta and Outcome hold numbers, texts and booleans
	}
	return b
}
