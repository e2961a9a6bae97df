// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.io/coredump/pkg/corefile/corefiletest"
)

func TestSalvageFinishesWhatAKilledWriterLeft(t *testing.T) {
	const size = 1 << 16
	whole := corefiletest.Core(size, 1)
	otherBoot := meta()
	otherBoot.BootID = "another"
	for _, c := range []struct {
		what  string
		meta  *Meta
		core  []byte
		after func(w *Writer) error
		want  *Outcome // nil: not in ready
		aside bool
	}{
		{what: "nothing"},
		{what: "an empty core and no meta", core: []byte{}},
		{what: "an empty meta", after: func(w *Writer) error { return w.WriteFile(MetaFile, nil) }},
		{what: "a core and no meta", core: whole, aside: true},
		{what: "a meta that is none", core: whole, aside: true, after: func(w *Writer) error { return w.WriteFile(MetaFile, []byte("{")) }},
		{what: "a meta", meta: meta(), want: &Outcome{Suppressed: ReasonAbandoned}},
		{what: "half a core", meta: meta(), core: whole[:size/2], want: &Outcome{Size: size / 2, PromisedSize: size, Truncated: ReasonAbandoned}},
		{what: "half a header", meta: meta(), core: whole[:32], want: &Outcome{Size: 32, Truncated: ReasonAbandoned}},
		{what: "a whole core", meta: meta(), core: whole, want: &Outcome{Size: size, PromisedSize: size}},
		{what: "a whole core of which the disk may not have all", meta: otherBoot, core: whole, want: &Outcome{Size: size, PromisedSize: size, Truncated: ReasonAbandoned}},
		{what: "an outcome", meta: meta(), core: whole[:9], want: &Outcome{Size: 9, Truncated: ReasonKilled}, after: func(w *Writer) error {
			return w.WriteFile(OutcomeFile, encode(&Outcome{Size: 9, Truncated: ReasonKilled}))
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := open(t)
			w := create(t, s, c.meta, c.core)
			if c.after != nil {
				must(t, c.after(w))
			}
			if done, err := s.Salvage(); err != nil || len(done.Finished)+len(done.Removed)+len(done.Aside) != 0 {
				t.Fatalf("an entry with a living writer was touched: %+v, %v", done, err)
			}
			must(t, w.Close())
			_, err := s.Salvage()
			must(t, err)

			aside, err := s.Aside()
			must(t, err)
			if got := len(aside) > 0; got != c.aside {
				t.Errorf("set aside: %v", got)
			}
			if got := len(ready(t, s)) > 0; got != (c.want != nil) {
				t.Fatalf("ready: %v", got)
			}
			if c.want == nil {
				if u, err := s.Usage(); err != nil || u.Entries != len(aside) {
					t.Errorf("left over: %+v, %v", u, err)
				}
				return
			}
			e, err := s.Entry(w.Name())
			must(t, err)
			defer e.Close()
			o, err := e.Outcome()
			must(t, err)
			o.Error = ""
			if *o != *c.want {
				t.Errorf("outcome %+v, want %+v", o, c.want)
			}
		})
	}
}

func TestSalvageEndsARemovalThatWasKilled(t *testing.T) {
	s := open(t)
	w := create(t, s, meta(), []byte("x"))
	must(t, w.Finish(Outcome{Size: 1}))
	must(t, s.move(readyDir, goneDir, w.Name()))
	_, err := s.Salvage()
	must(t, err)
	if u, err := s.Usage(); err != nil || u.Entries != 0 {
		t.Errorf("left over: %+v, %v", u, err)
	}
}

func TestSalvageRemovesWhatNeverGotItsName(t *testing.T) {
	s := open(t)
	old, young := filepath.Join(s.Path(), incomingDir, newPrefix+"old"), filepath.Join(s.Path(), incomingDir, newPrefix+"young")
	must(t, errors.Join(os.Mkdir(old, 0o700), os.Mkdir(young, 0o700), os.Chtimes(old, time.Time{}, time.Now().Add(-2*newAge))))
	_, err := s.Salvage()
	must(t, err)
	if _, err := os.Lstat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old one: %v", err)
	}
	if _, err := os.Lstat(young); err != nil {
		t.Errorf("the young one: %v", err)
	}
}

// TestAWriterWinsAgainstSalvage lets both run at once: entries are new and empty, which is when Salvage takes them for abandoned ones.
func TestAWriterWinsAgainstSalvage(t *testing.T) {
	s := open(t)
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		var errs []error
		for {
			select {
			case <-stop:
				stopped <- errors.Join(errs...)
				return
			default:
				_, err := s.Salvage()
				errs = append(errs, err)
			}
		}
	}()
	const entries = 300
	for range entries {
		w, err := s.Create(NewName(meta()))
		must(t, err)
		must(t, w.WriteMeta(meta()))
		must(t, w.Finish(Outcome{Suppressed: ReasonRateLimit}))
	}
	close(stop)
	must(t, <-stopped)
	if got := len(ready(t, s)); got != entries {
		t.Errorf("%d of %d entries arrived", got, entries)
	}
}

const (
	writerEnv = "SPOOL_TEST_WRITER"
	// killedSize is the largest core of the writer that is killed.
	killedSize = 256 << 10
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerEnv); dir != "" {
		writeForEver(dir)
	}
	os.Exit(m.Run())
}

// writeForEver writes entries whose core follows from the number in HostPID, and says on standard output what it has finished.
func writeForEver(dir string) {
	s, err := Open(dir)
	check(err)
	base := int64(os.Getpid()) << 20
	for i := base; ; i++ {
		core := killedCore(i)
		m := meta()
		m.HostPID = i
		w, err := s.Create(NewName(m))
		check(err)
		check(w.WriteMeta(m))
		check(w.WriteFile(ContextDir+"/proc/maps", core[:100]))
		f, err := w.CreateCore()
		check(err)
		for b := core; len(b) > 0; {
			n, err := f.Write(b[:min(len(b), 16<<10)])
			check(err)
			b = b[n:]
		}
		check(f.Close())
		check(w.Finish(Outcome{Size: int64(len(core)), PromisedSize: int64(len(core))}))
		fmt.Println(w.Name())
		if i%3 == 0 {
			check(s.Remove(w.Name()))
			fmt.Println("-" + w.Name())
		}
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

func killedCore(number int64) []byte {
	size := corefiletest.MinSize + 100 + int(number*7919%killedSize)
	return corefiletest.Core(size, uint64(number))
}

// TestAWriterKilledAtAnyMomentLosesNothingCompleteAndLeavesNothingHalfUnmarked is the promise of the package.
func TestAWriterKilledAtAnyMomentLosesNothingCompleteAndLeavesNothingHalfUnmarked(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	dir := filepath.Join(memoryDir(t), "spool")
	s, err := Open(dir)
	must(t, err)
	defer s.Close()
	var finished, removed []string
	half := 0 // entries that were really in the middle; it takes luck to hit one
	ran := 0
	for ; ran < rounds || half == 0 && ran < 50*rounds; ran++ {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{writerEnv + "=" + dir}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewReader(out)
		first, err := lines.ReadString('\n') // it has begun
		must(t, err)
		time.AfterFunc(time.Duration(rand.IntN(20_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		rest, err := io.ReadAll(lines)
		must(t, err)
		if state := cmd.Wait(); state.Error() != "signal: killed" {
			t.Fatalf("the writer: %v", state)
		}
		for line := range strings.Lines(first + string(rest)) {
			if name, whole := strings.CutSuffix(line, "\n"); !whole {
				continue
			} else if gone, is := strings.CutPrefix(name, "-"); is {
				removed = append(removed, gone)
			} else {
				finished = append(finished, name)
			}
		}
		done, err := s.Salvage()
		must(t, err)
		for _, name := range done.Finished {
			if e, err := s.Entry(name); err == nil {
				if o, err := e.Outcome(); err == nil && o.Error != "" {
					half++
				}
				e.Close()
			}
		}
	}

	incoming, err := s.Incoming()
	must(t, err)
	aside, err := s.Aside()
	must(t, err)
	if len(incoming) > 0 || len(aside) > 0 {
		t.Errorf("incoming %v, aside %v", incoming, aside)
	}
	names := ready(t, s)
	kinds := map[Reason]int{}
	for _, name := range names {
		kinds[checkSalvaged(t, s, name, slices.Contains(finished, name))]++
	}
	for _, name := range removed {
		if slices.Contains(names, name) {
			t.Errorf("%s was removed and is there", name)
		}
	}
	t.Logf("%d finished, %d of them removed; found: %v", len(finished), len(removed), kinds)
	// What is missing without having been removed was being removed: at most one a round, by a writer that could not say so any more.
	missing := 0
	for _, name := range finished {
		if !slices.Contains(removed, name) && !slices.Contains(names, name) {
			number, _ := strconv.ParseInt(strings.Split(name, "-")[1], 10, 64)
			if number%3 != 0 {
				t.Errorf("%s was finished and is lost", name)
			}
			missing++
		}
	}
	if missing > ran {
		t.Errorf("%d entries are lost", missing)
	}
	if half == 0 {
		t.Error("no writer was killed in the middle: the test tests nothing")
	}
}

// memoryDir is in memory where that is possible: on a disk the writer is nearly always in fsync when it is killed.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "spool")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// checkSalvaged compares an entry with what its writer would have written, and tells how it is marked.
func checkSalvaged(t *testing.T, s *Spool, name string, finished bool) Reason {
	e, err := s.Entry(name)
	must(t, err)
	defer e.Close()
	m, err := e.Meta()
	must(t, err)
	o, err := e.Outcome()
	must(t, err)
	want := killedCore(m.HostPID)
	f, err := e.OpenCore()
	if errors.Is(err, fs.ErrNotExist) && o.Suppressed == ReasonAbandoned && !finished {
		return ReasonAbandoned
	}
	must(t, err)
	defer f.Close()
	got, err := io.ReadAll(f)
	must(t, err)
	switch {
	case o.Suppressed == ReasonAbandoned && len(got) == 0 && !finished:
		return ReasonAbandoned
	case o.Suppressed != "" || o.Size != int64(len(got)):
		t.Errorf("%s: outcome %+v, but %d bytes", name, o, len(got))
	case len(got) > len(want) || !bytes.Equal(got, want[:len(got)]):
		t.Errorf("%s: the core is another", name)
	case (o.Truncated == "") != (len(got) == len(want)):
		t.Errorf("%s: %d of %d bytes, marked %q", name, len(got), len(want), o.Truncated)
	case finished && o.Truncated != "":
		t.Errorf("%s was finished and is marked %q", name, o.Truncated)
	}
	return o.Truncated
}

func TestALockEndsWithItsProcess(t *testing.T) {
	s := open(t)
	w := create(t, s, meta(), nil)
	defer w.Close()
	e, err := s.Entry(w.Name())
	must(t, err)
	defer e.Close()
	if err := flock(e.dir, unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("an entry that is being written is not locked: %v", err)
	}
}
