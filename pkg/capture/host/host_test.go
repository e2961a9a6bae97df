// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.io/coredump/pkg/capture"
)

func TestMain(m *testing.M) {
	if what := os.Getenv("COREDUMP_TEST_CONTAINER"); what != "" {
		if err := contained(what, os.Getenv("COREDUMP_TEST_DIR")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if base := os.Getenv("COREDUMP_TEST_HOST"); base != "" {
		if err := install(machine(base), os.Getenv("COREDUMP_TEST_VERSION")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// machine is a host in a directory: proc/sys, and the place for our directory.
func machine(base string) *Host {
	return &Host{
		Dir: filepath.Join(base, "opt", "coredump"), HostDir: "/opt/coredump", Socket: "/run/coredump/core.sock",
		ProcSys: filepath.Join(base, "sys"), Namespaces: filepath.Join(base, "none"),
	}
}

// newMachine makes one with these settings.
func newMachine(t *testing.T, values Values) *Host {
	t.Helper()
	base := t.TempDir()
	for _, d := range []string{"opt", "sys/kernel/random", "sys/fs"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h := machine(base)
	for k, v := range values {
		set(t, h, k, v)
	}
	set(t, h, "kernel/random/boot_id", "0b3c1f2e-0000-4000-8000-000000000001")
	return h
}

func set(t *testing.T, h *Host, k Knob, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.ProcSys, string(k)), []byte(value+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func settings(t *testing.T, h *Host) Values {
	t.Helper()
	s, err := h.state()
	if err != nil {
		t.Fatal(err)
	}
	return s.current
}

// tree is all that is in a directory: names, modes and what is in them.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || d.IsDir() {
			all[name] = info.Mode().String()
			return err
		}
		b, err := os.ReadFile(name)
		if strings.Contains(name, "/sys/") { // of a setting the first line counts
			b, _, _ = bytes.Cut(b, []byte("\n"))
		}
		all[name] = info.Mode().String() + fmt.Sprintf(" %x", sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// program makes one of a version.
func programOf(dir, version string) (string, error) {
	name := filepath.Join(dir, "source-"+version)
	return name, os.WriteFile(name, []byte(strings.Repeat("corepipe "+version+"\n", 20000)), 0o755)
}

// install is what the node handler does at its start.
func install(h *Host, version string) error {
	source, err := programOf(os.TempDir(), version)
	if err != nil {
		return err
	}
	before, err := h.Original()
	if err != nil {
		return err
	}
	pattern, err := h.Install(source, fmt.Appendf(nil, "{%q: %q}\n", version, before.Values[CorePattern]))
	if err != nil {
		return err
	}
	old, err := h.read(CorePattern)
	if err != nil {
		return err
	}
	if _, err := h.Apply(Values{CorePattern: pattern, CorePipeLimit: "16", SuidDumpable: "2"}, false); err != nil {
		return err
	}
	return h.Prune(pattern, old)
}

func TestUninstallingGivesTheHostBackAsItWas(t *testing.T) {
	h := newMachine(t, before)
	base := filepath.Dir(h.ProcSys)
	was := tree(t, base)
	for _, version := range []string{"1", "1", "2", "3"} {
		if err := install(h, version); err != nil {
			t.Fatal(err)
		}
		if got := settings(t, h); got[CorePipeLimit] != "16" || got[SuidDumpable] != "2" || !h.Installed(got[CorePattern]) {
			t.Fatalf("after the installation: %v", got)
		}
	}
	if err := os.WriteFile(filepath.Join(h.Dir, capture.ComplainedFile), nil, 0o600); err != nil { // as corepipe does
		t.Fatal(err)
	}
	if _, err := h.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if now := tree(t, base); !maps.Equal(now, was) {
		t.Errorf("%v, was %v", now, was)
	}
	report, err := h.Uninstall()
	if now := tree(t, base); err != nil || !maps.Equal(now, was) || len(report.Written) > 0 {
		t.Errorf("once more: %v %v %v", report, err, now)
	}
}

func TestWhatIsNotOursStaysInTheDirectory(t *testing.T) {
	h := newMachine(t, before)
	if err := install(h, "1"); err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(h.Dir, "corepipe-mine")
	if err := os.WriteFile(theirs, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(h.Dir); len(left) != 1 || left[0].Name() != "corepipe-mine" {
		t.Errorf("%v", left)
	}
}

func TestTheVersionThatTheKernelMayBeStartingStays(t *testing.T) {
	h := newMachine(t, before)
	count := func() int {
		programs, left, err := h.names()
		if err != nil || len(left) > 0 {
			t.Fatal(err, left)
		}
		return len(programs)
	}
	for version, expected := range []int{1, 2, 2, 2} {
		if err := install(h, fmt.Sprint(version)); err != nil {
			t.Fatal(err)
		}
		if n := count(); n != expected {
			t.Errorf("after version %d there are %d, want %d", version, n, expected)
		}
	}
	if err := install(h, "3"); err != nil || count() != 1 {
		t.Errorf("after the same once more there are %d: %v", count(), err)
	}
}

func TestAProgramThatRunsIsNeverWrittenTo(t *testing.T) {
	h := newMachine(t, before)
	pattern, err := h.Install("/bin/sleep", nil)
	if err != nil {
		t.Fatal(err)
	}
	path, _, _ := strings.Cut(pattern[1:], " ")
	path = filepath.Join(h.Dir, filepath.Base(path))
	cmd := exec.Command(path, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if again, err := h.Install("/bin/sleep", nil); err != nil || again != pattern {
			t.Fatal(again, err)
		}
		if now, err := os.Stat(path); err != nil || !os.SameFile(was, now) {
			t.Errorf("the same version was installed anew: %v", err)
		}
	}
	// A damaged one is replaced, by another file.
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Install("/bin/sleep", nil); err != nil {
		t.Fatal(err)
	}
	if now, err := os.Stat(path); err != nil || os.SameFile(was, now) || now.Mode().Perm() != 0o755 {
		t.Errorf("the damaged one is still there: %v", err)
	}
}

func TestHalfAFileOfOriginalsIsNone(t *testing.T) {
	for _, content := range []string{"", "{", `{"bootID":"x"}`, `{"bootID":"","values":{"kernel/core_pattern":"x"}}`, "null", `[]`} {
		h := newMachine(t, before)
		if err := install(h, "1"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(h.Dir, OriginalFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := h.Original()
		if err != nil || !o.Lost || o.Values[CorePattern] != "core" {
			t.Errorf("%q: %v %v", content, o, err)
		}
		if _, err := h.Uninstall(); err != nil {
			t.Fatal(err)
		}
		if now := settings(t, h); now[CorePattern] != "core" || now[CorePipeLimit] != "0" {
			t.Errorf("%q: %v", content, now)
		}
	}
}

func TestAPatternThatTheKernelWouldCutIsRefused(t *testing.T) {
	h := newMachine(t, before)
	h.HostDir = "/" + strings.Repeat("d", 128-len("|//corepipe-0123456789ab "+capture.Specifiers))
	if _, err := h.Install("/bin/true", nil); err == nil || !strings.Contains(err.Error(), "128 bytes") {
		t.Error(err)
	}
	h.HostDir = h.HostDir[:len(h.HostDir)-1]
	if pattern, err := h.Install("/bin/true", nil); err != nil || len(pattern) != MaxPattern {
		t.Error(len(pattern), err)
	}
	for _, path := range []string{"core.sock", "/run/../core.sock", "/run/a b", "/run/%p", "/" + strings.Repeat("s", 107), "/run//x"} {
		if _, err := SocketPattern(path); err == nil {
			t.Errorf("%q is taken", path)
		}
	}
}

func TestAPatternThatIsNotOursIsNotApplied(t *testing.T) {
	h := newMachine(t, before)
	if _, err := h.Apply(Values{CorePattern: "/cores/core"}, true); err == nil {
		t.Error("it could never be told from the host's own")
	}
}

func TestADirectoryThatOthersCanWriteToIsRefused(t *testing.T) {
	h := newMachine(t, before)
	if err := os.Mkdir(h.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(h.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := install(h, "1"); err == nil {
		t.Error("it is taken")
	}
}

func TestAForbiddingHostIsLeftAsItIs(t *testing.T) {
	h := newMachine(t, Values{CorePattern: "|/bin/false", CorePipeLimit: "0", SuidDumpable: "0"})
	was := tree(t, h.ProcSys)
	if err := install(h, "1"); !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), `"|/bin/false"`) {
		t.Error(err)
	}
	if now := tree(t, h.ProcSys); !maps.Equal(now, was) {
		t.Errorf("%v", now)
	}
	if _, err := h.Uninstall(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(h.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}

func TestSocketsAreToldByCoreModesOrTheRelease(t *testing.T) {
	for _, c := range []struct {
		modes, release string
		expected       bool
	}{
		{"file\npipe\nsocket", "6.18.44", true},
		{"file\npipe", "6.18.44", false},
		{"", "6.17.1-amd64", true},
		{"", "6.16.9", false},
		{"", "7.0.0-rc1", true},
		{"", "5.15.0-101-generic", false},
		{"", "weird", false},
	} {
		h := newMachine(t, before)
		set(t, h, "kernel/osrelease", c.release)
		if c.modes != "" {
			set(t, h, "kernel/core_modes", c.modes)
		}
		if got, err := h.TakesSockets(); err != nil || got != c.expected {
			t.Errorf("%+v: %v %v", c, got, err)
		}
	}
}

const kills = 60

// TestKilledAtRandomMomentsTheHostIsStillGivenBack kills installations and upgrades, again and again.
func TestKilledAtRandomMomentsTheHostIsStillGivenBack(t *testing.T) {
	h := newMachine(t, before)
	base := filepath.Dir(h.ProcSys)
	was := tree(t, base)
	temporary := t.TempDir()
	seed := time.Now().UnixNano()
	t.Log("seed", seed)
	rnd, cut := rand.New(rand.NewPCG(uint64(seed), 0)), 0
	spawn := func(version string, wait time.Duration) time.Duration {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "COREDUMP_TEST_HOST="+base, "COREDUMP_TEST_VERSION="+version, "TMPDIR="+temporary)
		begin := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(wait, func() { cmd.Process.Signal(syscall.SIGKILL) }) // the random moment
		err := cmd.Wait()
		kill.Stop()
		if err != nil {
			cut++
		}
		return time.Since(begin)
	}
	whole := spawn("0", time.Hour)
	if cut > 0 {
		t.Fatal("it cannot be installed")
	}
	for n := range kills {
		for range 1 + rnd.IntN(3) {
			spawn(fmt.Sprint(rnd.IntN(3)), time.Duration(rnd.Int64N(int64(whole))))
		}
		if got := settings(t, h)[CorePattern]; whose(got, h.HostDir, h.Socket) == ours && !h.Installed(got) {
			t.Fatalf("the kernel runs what is not there: %q", got)
		}
		if n%3 > 0 {
			continue
		}
		if _, err := h.Uninstall(); err != nil {
			t.Fatal(err)
		}
		if now := tree(t, base); !maps.Equal(now, was) {
			t.Fatalf("after %d kills: %v, was %v", cut, now, was)
		}
	}
	if cut < kills/4 {
		t.Errorf("only %d of them were killed before their end", cut)
	}
}
