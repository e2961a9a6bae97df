// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

const (
	firstPiece = 8 << 20
	// maxPiece bounds how far those at work are from each other, in bytes: what is behind a gap cannot be decompressed yet.
	maxPiece = 32 << 20
	// pieceTime is how long a piece should take: short against the minute after which kube-apiserver ends a request, long against a round trip.
	pieceTime = 4 * time.Second
	// noteEvery is how many bytes are written before they are noted. A kill costs at most that for each worker.
	noteEvery = 64 << 10
	// refusalTime is for how long a server that has given something may refuse. Not how often: all pieces that are under way are refused at once.
	refusalTime = 15 * time.Second
)

// pieces fetches ranges into a file.
type pieces struct {
	object *Object
	ledger *ledger
	file   *os.File
	holes  bool // leave pages of zeros out; the file has its length already
	giveUp time.Duration
	delay  time.Duration // before the first repetition
	meter  *Meter

	mu       sync.Mutex
	fetched  bool      // anything, in this run
	failures int       // since something arrived last
	failing  time.Time // the first of them
	refused  time.Time // the first refusal since then; zero where there was none
}

// probe asks what there is, as long as there is hope.
func (p *pieces) probe(ctx context.Context, size int64) error {
	for {
		err := p.object.probe(ctx, size)
		if err == nil {
			return nil
		}
		if err := p.wait(ctx, err); err != nil {
			return err
		}
	}
}

// run fetches one piece after the other, as long as ctx lasts: what has arrived may turn out to be bad. It may run several times at once.
func (p *pieces) run(ctx context.Context) error {
	s := span{0, p.ledger.size}
	size := int64(firstPiece)
	for {
		piece, err := p.ledger.take(ctx, s, size)
		if err == nil && piece.len() == 0 {
			err = p.ledger.again(ctx)
		}
		if err != nil {
			return err
		}
		if piece.len() == 0 {
			continue
		}
		began := time.Now()
		n, err := p.fetch(ctx, piece)
		p.ledger.release(piece)
		switch took := time.Since(began); {
		case err == nil:
			size = min(max(int64(float64(n)*float64(pieceTime)/float64(took+1)), minPiece), 2*size, maxPiece)
		case n > 0:
			size = max(n/2, minPiece) // the next one shall end before whatever cut this one off
		}
		if err != nil {
			if err := p.wait(ctx, err); err != nil {
				return err
			}
		}
	}
}

// ensure fetches all of s, and returns when it has arrived.
func (p *pieces) ensure(ctx context.Context, s span) error {
	for {
		piece, err := p.ledger.take(ctx, s, s.len())
		if err != nil || piece.len() == 0 {
			return err
		}
		_, err = p.fetch(ctx, piece)
		p.ledger.release(piece)
		if err != nil {
			if err := p.wait(ctx, err); err != nil {
				return err
			}
		}
	}
}

// fetch fetches a piece, and tells how many bytes of it have arrived.
func (p *pieces) fetch(ctx context.Context, s span) (n int64, err error) {
	r, err := p.object.open(ctx, s.from, s.len())
	if err != nil {
		return 0, err
	}
	defer r.Close()
	buf := make([]byte, noteEvery)
	for n < s.len() {
		m, err := io.ReadFull(r, buf[:min(int64(len(buf)), s.len()-n)])
		if m > 0 {
			at := span{s.from + n, s.from + n + int64(m)}
			if err := p.write(buf[:m], at.from); err != nil {
				return n, &localError{err}
			}
			if err := p.ledger.arrived(at); err != nil {
				return n, &localError{err}
			}
			n += int64(m)
			p.meter.add(int64(m))
			p.arrived()
		}
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = fmt.Errorf("the server broke off at byte %d", s.from+n)
			}
			return n, err
		}
	}
	return n, nil
}

// arrived says that the server gave something.
func (p *pieces) arrived() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetched, p.failures, p.refused = true, 0, time.Time{}
}

func (p *pieces) write(b []byte, offset int64) error {
	if !p.holes {
		_, err := p.file.WriteAt(b, offset)
		return err
	}
	_, err := (&sparse{f: p.file, offset: offset, limit: p.ledger.size}).Write(b)
	return err
}

// localError is one that asking again does not help against.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

// wait waits before the next attempt after a failed one, or returns an error where there is to be none.
func (p *pieces) wait(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var here *localError
	if errors.As(err, &here) {
		return local(here.error)
	}
	if errors.Is(err, ErrWrong) || errors.Is(err, ErrChanged) || errors.Is(err, errNoRanges) || errors.Is(err, ErrNoRoom) {
		return err
	}
	var status *StatusError
	refused := errors.As(err, &status) && status.refusal()
	p.mu.Lock()
	if p.failures++; p.failures == 1 { // and not when something arrived last: this process may have been stopped since
		p.failing = time.Now()
	}
	if refused && p.refused.IsZero() {
		p.refused = time.Now()
	}
	failures, since := p.failures, time.Since(p.failing)
	final := refused && (!p.fetched || time.Since(p.refused) > min(refusalTime, p.giveUp))
	p.mu.Unlock()
	if final {
		return err
	}
	if since > p.giveUp && !refused { // why it refuses is the better answer, and comes soon
		return fmt.Errorf("%w: nothing arrived for %s: %w", ErrIncomplete, since.Round(time.Second), err)
	}
	delay := p.delay << min(failures-1, 6)
	delay = delay/2 + rand.N(delay/2+1)
	if status != nil {
		delay = max(delay, status.RetryAfter)
	}
	p.meter.trouble(err)
	select {
	case <-time.After(delay):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
