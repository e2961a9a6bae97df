// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package download

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// slow takes what is written to it, although the watchdog has just bitten.
type slow struct {
	http.ResponseWriter
	takes    time.Duration
	deadline time.Time
}

func (s *slow) Write(p []byte) (int, error) {
	time.Sleep(s.takes)
	return len(p), nil
}

func (s *slow) FlushError() error { return nil }

func (s *slow) SetWriteDeadline(t time.Time) error {
	s.deadline = t
	return nil
}

// An answer that was sent well after all leaves the connection as it was: the next request of HTTP/1.1 has it too.
func TestADeadlineDoesNotOutliveItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slow{takes: time.Minute + time.Millisecond}
		c, err := newClient(w, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("the end")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if w.deadline.IsZero() {
			t.Fatal("the watchdog did not bite")
		}
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
		c.release()
		if !w.deadline.IsZero() {
			t.Errorf("the deadline is %v", w.deadline)
		}
	})
}
