// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package thread

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTheThreadIsNotTheFirstAndEnds(t *testing.T) {
	var all sync.Map
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			Run(func() {
				runtime.Gosched()
				if unix.Gettid() == os.Getpid() {
					t.Error("it is the first thread")
				}
				if _, twice := all.LoadOrStore(unix.Gettid(), true); twice {
					t.Log("a number is used again: the thread had ended")
				}
			})
		})
	}
	group.Wait()
	all.Range(func(id, _ any) bool {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if _, err := os.Stat("/proc/self/task/" + strconv.Itoa(id.(int))); err != nil {
				return true
			}
			if time.Now().After(deadline) {
				t.Errorf("thread %d is still there", id)
				return false
			}
		}
	})
}
