// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/spool"
)

// slowFile is a file whose content never comes: whoever touches it in memory waits in a page fault, the kernel that dumps it too. See include/uapi/linux/fuse.h.
// The test defers end: nothing that waits for the file can be ended before, not even by SIGKILL, and t.Cleanup waits for it.
func slowFile(t *testing.T, name string, size int64) (end func()) {
	t.Helper()
	must(t, os.WriteFile(name, nil, 0o600))
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("NOT TESTED: no FUSE here: ", err)
	}
	// The root of the file system is the file.
	if err := unix.Mount("slow", name, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=100444,user_id=0,group_id=0", dev)); err != nil {
		unix.Close(dev)
		t.Skip("NOT TESTED: mounting is not allowed here: ", err)
	}
	served := make(chan struct{})
	go func() { defer close(served); serveSlowly(dev, size) }()
	return func() {
		must(t, unix.Unmount(name, unix.MNT_FORCE|unix.MNT_DETACH)) // what waits gets an error, and so does the server
		<-served
		unix.Close(dev)
	}
}

// serveSlowly answers everything but reads, until the file system is gone.
func serveSlowly(dev int, size int64) {
	const opForget, opGetattr, opOpen, opRead, opInit, opInterrupt, opBatchForget = 2, 3, 14, 15, 26, 36, 42
	request := make([]byte, 1<<17)
	for {
		n, err := unix.Read(dev, request)
		if err == unix.EINTR || err == unix.EAGAIN || err == unix.ENOENT {
			continue
		}
		if err != nil || n < 40 {
			return
		}
		le := binary.LittleEndian
		var body []byte
		errno := int32(0)
		switch le.Uint32(request[4:]) {
		case opRead, opForget, opBatchForget, opInterrupt: // the last three want no answer; Go interrupts its threads all the time
			continue
		case opInit:
			body = make([]byte, 64)
			le.PutUint32(body, 7)
			le.PutUint32(body[4:], 31)
			le.PutUint32(body[20:], 1<<16) // max_write: with its header it has to fit into what is read, or reading fails
		case opGetattr:
			body = make([]byte, 104)
			le.PutUint64(body, 1000) // valid for that many seconds
			le.PutUint64(body[16:], 1)
			le.PutUint64(body[24:], uint64(size))
			le.PutUint32(body[16+60:], unix.S_IFREG|0o444)
			le.PutUint32(body[16+64:], 1)
		case opOpen:
			body = make([]byte, 16)
		default:
			errno = -int32(unix.ENOSYS)
		}
		answer := make([]byte, 16, 16+len(body))
		le.PutUint32(answer, uint32(16+len(body)))
		le.PutUint32(answer[4:], uint32(errno))
		copy(answer[8:16], request[8:16])
		_, _ = unix.Write(dev, append(answer, body...)) // fails where nobody waits for it any more; that the file system is gone, the next read says
	}
}

// touchSlowly maps a file into memory, and has that dumped.
func touchSlowly(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	if _, err := f.Stat(); err != nil { // the kernel learns how long it is: beyond the end there is nothing to wait for
		return err
	}
	if _, err := unix.Mmap(int(f.Fd()), 0, slowSize, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return err
	}
	// All kinds of mappings, see core(5).
	return os.WriteFile("/proc/self/coredump_filter", []byte("0x7f"), 0)
}

const (
	slowSize = 1 << 20
	// slowEnv names a slow file for the process that crashes.
	slowEnv = "COREPIPE_TEST_SLOW"
)

func TestP6_MemoryThatNeverComesHoldsCorepipeNoLongerThanItsTimeout(t *testing.T) {
	h := newHost(t, "16", "", func(c *capture.Config) {
		c.AnswerTimeout, c.Deadline, c.StallTimeout = 0, capture.Duration(patience), capture.Duration(300*time.Millisecond)
	})
	name := filepath.Join(h.dir, "slow.file")
	defer slowFile(t, name, slowSize)()
	v := h.startWith("random 1", h.cgroup, slowEnv+"="+name)
	v.crash()
	_, m, o := h.entry() // while the kernel still waits for the memory
	if o.Truncated != spool.ReasonStalled || o.Size == 0 || o.Size >= o.PromisedSize || !m.Verified {
		t.Errorf("%+v", o)
	}
	must(t, v.cmd.Process.Kill())
}
