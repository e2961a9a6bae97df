// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package corefile_test

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"example.io/coredump/pkg/corefile"
)

// program builds a program of testdata into a directory of its own; it skips the test where there is no compiler.
func program(t *testing.T, source string, flags ...string) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "crash")
	args := append([]string{"gcc"}, append(flags, "-g", "-pthread", "-o", exe, source)...)
	if strings.HasSuffix(source, ".go") {
		args = append([]string{"go", "build", "-o", exe}, append(flags, source)...)
	}
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return exe
}

// crash runs a program until it crashes and gives the core that the kernel wrote. It leaves the kernel's settings as they are, and
// skips the test where they do not make cores in the current directory.
func crash(t *testing.T, exe string, args ...string) string {
	t.Helper()
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil || strings.ContainsAny(string(pattern), "/|@%") {
		t.Skipf("core_pattern is %q: no core in the current directory (%v)", pattern, err)
	}
	dir := t.TempDir()
	cmd := exec.Command("/bin/sh", append([]string{"-c", `ulimit -c unlimited && exec "$0" "$@"`, exe}, args...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOTRACEBACK=crash")
	_ = cmd.Run() // it crashes
	cores, _ := filepath.Glob(filepath.Join(dir, "core*"))
	if len(cores) != 1 {
		t.Skipf("%v: %v: no core, for the system does not allow it", args, cmd.ProcessState)
	}
	return cores[0]
}

func parse(t *testing.T, core string) *corefile.Parser {
	t.Helper()
	b, err := os.ReadFile(core)
	if err != nil {
		t.Fatal(err)
	}
	p := corefile.NewParser()
	_, _ = p.Write(b)
	if p.Err() != nil || !p.HeadDone() || p.PromisedSize() != int64(len(b)) {
		t.Fatalf("%v, head done %v, promises %d of %d", p.Err(), p.HeadDone(), p.PromisedSize(), len(b))
	}
	return p
}

// gdb gives what gdb says to each command.
func gdb(t *testing.T, exe, core string, commands ...string) []string {
	t.Helper()
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Skip(err)
	}
	const mark = "-=-=-"
	args := []string{"-batch", "-nx", "-iex", "set debuginfod enabled off"}
	for _, c := range commands {
		args = append(args, "-ex", "echo "+mark, "-ex", c)
	}
	out, _ := exec.Command("gdb", append(args, exe, core)...).Output()
	said := strings.Split(string(out), mark)[1:]
	for len(said) < len(commands) {
		said = append(said, "")
	}
	return said
}

var hexNumber = regexp.MustCompile(`0x[0-9a-f]+`)

func numbers(text string) (all []uint64) {
	for _, m := range hexNumber.FindAllString(text, -1) {
		n, _ := strconv.ParseUint(m[2:], 16, 64)
		all = append(all, n)
	}
	return all
}

// buildIDOf reads the note of an executable by its section.
func buildIDOf(t *testing.T, exe string) string {
	t.Helper()
	f, err := elf.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := f.Section(".note.gnu.build-id")
	if s == nil {
		return ""
	}
	note, err := s.Data()
	if err != nil || len(note) < 16 {
		t.Fatalf("%x, %v", note, err)
	}
	return hex.EncodeToString(note[16:])
}

func TestFactsOfRealCoresAgreeWithGDB(t *testing.T) {
	for _, optimization := range []string{"-O0", "-O2"} {
		exe := program(t, "testdata/crash.c", optimization, "-fno-omit-frame-pointer", "-Wl,--build-id")
		for _, c := range []struct {
			how     string
			threads int
			signal  int32
			meaning string
		}{
			{"null", 0, 11, "address not mapped"},
			{"null", 9, 11, "address not mapped"},
			{"divide", 0, 8, "integer divide by zero"},
			{"call", 2, 11, "address not mapped"},
			{"kill", 0, 11, "sent by kill"},
			{"abort", 0, 6, "sent by tkill"},
		} {
			t.Run(fmt.Sprint(c.how, c.threads, optimization), func(t *testing.T) {
				core := crash(t, exe, c.how, strconv.Itoa(c.threads))
				f := parse(t, core).Facts()
				said := gdb(t, exe, core, "p/x $pc", "p/d $_siginfo.si_code", "p/x $_siginfo._sifields._sigfault.si_addr", "info threads", "set backtrace past-main on", "bt")
				pc := numbers(said[0])
				code, err := strconv.Atoi(strings.TrimSpace(said[1][strings.LastIndex(said[1], "=")+1:]))
				if err != nil {
					t.Fatal(err)
				}
				if f.Signal != c.signal || f.Meaning != c.meaning || f.Code != int32(code) || f.HasAddress != (code > 0) || f.HasAddress && f.Address != numbers(said[2])[0] {
					t.Errorf("%+v\ngdb: %q", f, said[:3])
				}
				if f.Executable != exe || f.Comm != "crash" || f.Threads != c.threads+1 || f.Threads != strings.Count(said[3], "LWP") || len(f.Others) != c.threads {
					t.Errorf("%+v\ngdb: %s", f, said[3])
				}
				if want := fmt.Sprintf("LWP %d)", f.TID); !strings.Contains(said[3][strings.Index(said[3], "*"):], want) {
					t.Errorf("thread %d crashed; gdb: %s", f.TID, said[3])
				}
				if c.threads > 0 && f.Rank != 2+c.threads/2 || f.PID > f.TID {
					t.Errorf("rank %d of %d", f.Rank, f.Threads)
				}
				if m := f.Modules[0]; m.Path != exe || m.BuildID != buildIDOf(t, exe) || m.BuildID == "" {
					t.Errorf("modules %+v: must begin with the executable, build id %s", f.Modules, buildIDOf(t, exe))
				}
				if f.Frames[0].Address != pc[0] {
					t.Errorf("pc %#x; gdb %#x", f.Frames[0].Address, pc[0])
				}
				if strings.Contains("kill abort", c.how) {
					return // the C library has no frame pointers
				}
				trace := numbers(said[5])
				for _, frame := range f.Frames[1:] {
					if !slices.Contains(trace, frame.Address) {
						t.Errorf("frame %+v is not in gdb's:\n%s", frame, said[5])
					}
				}
				if optimization == "-O0" && c.how != "kill" && c.how != "abort" && len(f.Frames) < 4 {
					t.Errorf("%d frames of\n%s", len(f.Frames), said[5])
				}
				t.Logf("%d frames, %d modules", len(f.Frames), len(f.Modules))
			})
		}
	}
}

func TestAStackThatRanOverHasFrames(t *testing.T) {
	exe := program(t, "testdata/crash.c", "-O0", "-fno-omit-frame-pointer")
	f := parse(t, crash(t, exe, "overflow")).Facts()
	if f.Signal != 11 || !f.HasAddress || len(f.Frames) != corefile.MaxFrames || f.Frames[7].Module != exe || f.Frames[7].Offset != f.Frames[6].Offset {
		t.Errorf("%+v", f)
	}
}

func TestEqualCrashesAreAtOneSiteAndOthersAreNot(t *testing.T) {
	exe := program(t, "testdata/crash.c", "-O2", "-fPIE", "-pie")
	first, again := parse(t, crash(t, exe, "null")), parse(t, crash(t, exe, "null", "4"))
	other := parse(t, crash(t, exe, "other"))
	if randomized, _ := os.ReadFile("/proc/sys/kernel/randomize_va_space"); string(randomized) == "2\n" && first.Facts().Frames[0].Address == again.Facts().Frames[0].Address {
		t.Error("the program was at the same addresses: this shows nothing")
	}
	if s := first.Site(); len(s) != 16 || s != again.Site() || s == other.Site() {
		t.Errorf("sites %q and %q are one, %q is another", s, again.Site(), other.Site())
	}
}

func TestAGoProgramHasItsBuildIDAndFrames(t *testing.T) {
	exe := program(t, "testdata/crash.go", "-ldflags=-B gobuildid")
	f := parse(t, crash(t, exe)).Facts()
	if f.Signal != 6 || f.Meaning != "sent by tkill" || f.Executable != exe || f.Threads < 2 || len(f.Frames) < 2 {
		t.Errorf("%+v", f)
	}
	if id := buildIDOf(t, exe); id == "" || f.Frames[0].BuildID != id {
		t.Errorf("build id %q: must be %q", f.Frames[0].BuildID, id)
	}
	if f.Frames[0].Module != exe || f.Frames[1].Module != exe {
		t.Errorf("%+v", f.Frames)
	}
}

// gdb writes the notes behind the memory: what is in the memory has passed when it is known what of it is wanted.
func TestACoreThatGDBWroteTellsWhatIsInItsNotes(t *testing.T) {
	exe := program(t, "testdata/crash.c", "-O0", "-fno-omit-frame-pointer")
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Skip(err)
	}
	core := filepath.Join(t.TempDir(), "core")
	out, err := exec.Command("gdb", "-batch", "-nx", "-iex", "set debuginfod enabled off", "-ex", "run", "-ex", "generate-core-file "+core, "-ex", "kill", "--args", exe, "null", "3").CombinedOutput()
	b, readErr := os.ReadFile(core)
	if readErr != nil {
		t.Skipf("gdb cannot run a program here: %v\n%s", err, out)
	}
	p := corefile.NewParser()
	_, _ = p.Write(b)
	f := p.Facts()
	if p.Err() != nil || f.Signal != 11 || f.Code != 1 || !f.HasAddress || f.Address != 8 || f.Executable != exe || f.Threads != 4 || len(f.Frames) != 1 || f.Frames[0].Module != exe {
		t.Errorf("%v: %+v\n%s", p.Err(), f, bytes.TrimSpace(out))
	}
}
