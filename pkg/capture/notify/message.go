// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package notify is how corepipe tells the node handler of a crash while the process is held: one message each way over the socket in the
// spool, which only root can reach. The connection stays open until the dump has been taken; its end is the third message.
//
//	corepipe -> node handler   capture.Request as JSON, with SCM_RIGHTS: a pidfd, and an O_PATH descriptor of the process's root directory
//	node handler -> corepipe   capture.Verdict as JSON
//	corepipe -> node handler   the end of the connection
//
// The socket is a SOCK_SEQPACKET one, so a message comes whole or not at all; see unix(7).
package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"example.io/coredump/pkg/capture"
)

const (
	// maxRequest bounds a request in bytes: two texts of 8 KiB, escaped; maxVerdict a verdict.
	maxRequest = 128 << 10
	maxVerdict = 64 << 10
	// maxDescriptors come with a request.
	maxDescriptors = 2
)

// ErrMessage is the kind of the errors for a message that makes no sense.
var ErrMessage = errors.New("bad message")

func decodeRequest(b []byte) (*capture.Request, error) {
	r := &capture.Request{}
	if err := decode(b, r); err != nil {
		return nil, err
	}
	if r.Entry == "" || r.Meta.HostPID <= 0 {
		return nil, fmt.Errorf("%w: a request for entry %.140q, pid %d", ErrMessage, r.Entry, r.Meta.HostPID)
	}
	return r, nil
}

func decodeVerdict(b []byte) (*capture.Verdict, error) {
	v := &capture.Verdict{}
	if err := decode(b, v); err != nil {
		return nil, err
	}
	switch v.Action {
	case capture.Keep, capture.Drop, capture.Forward:
	default:
		return nil, fmt.Errorf("%w: action %.20q", ErrMessage, v.Action)
	}
	if v.MaxSize < 0 {
		return nil, fmt.Errorf("%w: a size of %d", ErrMessage, v.MaxSize)
	}
	return v, nil
}

func decode(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: there is more behind it", ErrMessage)
	}
	return nil
}
