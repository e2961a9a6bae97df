// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/spool"
	"example.io/coredump/pkg/tell"
)

// reasons records the reasons of Events.
type reasons struct {
	mu   sync.Mutex
	list []string
}

func (r *reasons) Eventf(_, _ runtime.Object, _, reason, _, _ string, _ ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, reason)
}

func (r *reasons) has(reason tell.Reason) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.list, string(reason))
}

// machine is a host in a directory, and a kernel part of the program on it.
type machine struct {
	*kernel
	dir    string
	events *reasons
	end    context.CancelFunc
	ended  chan error
}

// newMachine makes one with the core_pattern.
func newMachine(t *testing.T, pattern string) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "m") // short: a core_pattern has 127 bytes
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.MkdirAll(filepath.Join(dir, "sys/kernel/random"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "sys/fs"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "dumps"), 0o755))
	m := &machine{dir: dir, events: &reasons{}}
	m.set(t, "core_pattern", pattern)
	m.set(t, "core_pipe_limit", "0")
	m.set(t, "random/boot_id", "0b3c1f2e-0000-4000-8000-000000000001")
	must(t, os.WriteFile(filepath.Join(dir, "corepipe"), []byte("the program"), 0o755))
	o := newKernelOptions()
	o.hostDir, o.procSys, o.corepipe, o.socket = filepath.Join(dir, "host"), filepath.Join(dir, "sys"), filepath.Join(dir, "corepipe"), filepath.Join(dir, "run/core.sock")
	o.heal = 5 * time.Millisecond
	s, err := spool.Open(filepath.Join(dir, "dumps/.spool"))
	must(t, err)
	t.Cleanup(func() { s.Close() })
	c := &config{options: &options{}}
	c.options.kernel, c.dir, c.maxSize, c.limits = o, filepath.Join(dir, "dumps"), 1<<30, limits{cut: 1 << 20, spool: 1 << 30, minFree: 1}
	m.kernel = &kernel{config: c, spool: s, teller: tell.New(m.events, "n1", clock.RealClock{})}
	m.capture, err = c.captureConfig(s)
	must(t, err)
	return m
}

func (m *machine) set(t *testing.T, setting, value string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(m.dir, "sys/kernel", setting), []byte(value+"\n"), 0o644))
}

func (m *machine) get(t *testing.T, setting string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(m.dir, "sys/kernel", setting))
	must(t, err)
	line, _, _ := strings.Cut(string(data), "\n") // what is behind it was there before: this is a plain file
	return line
}

func (m *machine) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	m.end, m.ended = cancel, make(chan error, 1)
	go func() { m.ended <- m.settings(ctx) }()
	t.Cleanup(cancel)
}

func (m *machine) stop(t *testing.T) {
	t.Helper()
	m.end()
	must(t, <-m.ended)
}

func (m *machine) ours(t *testing.T) bool {
	return strings.HasPrefix(m.get(t, "core_pattern"), "|"+filepath.Join(m.dir, "host/corepipe-")) && m.get(t, "core_pipe_limit") == "16"
}

func (m *machine) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		select {
		case err := <-m.ended:
			t.Fatalf("it ended before it came to this: %s: %v", what, err)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

func TestTheHostsSettingsAreKeptHealedAndStayForASuccessor(t *testing.T) {
	m := newMachine(t, "|/usr/lib/systemd/systemd-coredump %P")
	m.start(t)
	m.eventually(t, "they are ours", func() bool { return m.ours(t) })
	config, err := os.ReadFile(filepath.Join(m.dir, "host", capture.ConfigFile))
	must(t, err)
	if !bytes.Contains(config, []byte("systemd-coredump")) {
		t.Errorf("dumps of the host are not forwarded: %s", config)
	}
	m.set(t, "core_pattern", "core")
	m.set(t, "core_pipe_limit", "4")
	m.eventually(t, "they are healed and told of", func() bool { return m.ours(t) && m.events.has(tell.HostSettingsChanged) })
	must(t, os.Remove(filepath.Join(m.dir, "host", capture.ConfigFile)))
	m.eventually(t, "corepipe has its configuration again", func() bool {
		again, _ := os.ReadFile(filepath.Join(m.dir, "host", capture.ConfigFile))
		return bytes.Equal(again, config)
	})
	m.stop(t)
	if !m.ours(t) {
		t.Error("dumps are not taken while the program is replaced")
	}
}

// What was changed while nobody was there may be what an administrator wants to tell us, or the boot; it is put right and no alarm.
func TestWhatIsFoundAtTheStartIsNoDrift(t *testing.T) {
	m := newMachine(t, "core")
	m.start(t)
	m.eventually(t, "they are ours", func() bool { return m.ours(t) })
	m.stop(t)
	m.set(t, "core_pattern", "other")
	m.start(t)
	m.eventually(t, "they are ours again", func() bool { return m.ours(t) })
	m.stop(t)
	if m.events.has(tell.HostSettingsChanged) {
		t.Error("it is told of")
	}
}

func TestTheHostGetsItsSettingsBackAtTheEndIfThatIsWanted(t *testing.T) {
	m := newMachine(t, "/cores/%e")
	m.config.kernel.restoreOnExit = true
	m.start(t)
	m.eventually(t, "they are ours", func() bool { return m.ours(t) })
	m.stop(t)
	if p, n := m.get(t, "core_pattern"), m.get(t, "core_pipe_limit"); p != "/cores/%e" || n != "0" {
		t.Errorf("%q, %q", p, n)
	}
}

func TestAHostThatForbidsDumpsIsRespectedAndPeopleAreTold(t *testing.T) {
	m := newMachine(t, "|/bin/false")
	m.start(t)
	m.eventually(t, "it is told", func() bool { return m.events.has(tell.HostSettingsRefused) })
	if p := m.get(t, "core_pattern"); p != "|/bin/false" {
		t.Errorf("%q", p)
	}
	m.set(t, "core_pattern", "core")
	m.eventually(t, "the host allows it", func() bool { return m.ours(t) })
	m.stop(t)

	m = newMachine(t, "|/bin/false")
	m.config.kernel.force = true
	m.start(t)
	m.eventually(t, "it is forced", func() bool { return m.ours(t) })
	m.stop(t)
}

func TestWhatCannotWorkIsSaidAtTheStart(t *testing.T) {
	m := newMachine(t, "core")
	m.config.kernel.suidDumpable = "2"
	m.start(t)
	if err := <-m.ended; err == nil || !strings.Contains(err.Error(), "--suid-dumpable=2") {
		t.Errorf("%v", err)
	}
	m = newMachine(t, "core")
	m.config.kernel.corepipe = filepath.Join(m.dir, "nowhere")
	m.start(t)
	if err := <-m.ended; err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("%v", err)
	}
	if p := m.get(t, "core_pattern"); p != "core" {
		t.Errorf("core_pattern is %q, and nothing is there to be run", p)
	}
}

func TestAnOldVersionOfCorepipeGoesWhenTheNewOneIsInForce(t *testing.T) {
	m := newMachine(t, "core")
	programs := func() int {
		list, err := filepath.Glob(filepath.Join(m.dir, "host/corepipe-*"))
		must(t, err)
		return len(list)
	}
	m.start(t)
	m.eventually(t, "the first is in force", func() bool { return m.ours(t) })
	m.stop(t)
	old := m.get(t, "core_pattern")
	must(t, os.WriteFile(filepath.Join(m.dir, "corepipe"), []byte("another program"), 0o755))
	m.start(t)
	m.eventually(t, "the second is in force, alone", func() bool { return m.ours(t) && m.get(t, "core_pattern") != old && programs() == 1 })
	m.stop(t)
}

// tree is all that is in a directory.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	}))
	return names
}

// uninstall runs the command on the machine, from a container that has the machine's root in a directory of its own.
func (m *machine) uninstall(t *testing.T, args ...string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	must(t, os.Symlink("/", root))
	cmd := NewCommand(t.Context())
	var out bytes.Buffer
	cmd.SetOut(&out)
	o := &m.config.kernel
	cmd.SetArgs(append([]string{"uninstall", "--host-root=" + root, "--host-dir=" + o.hostDir, "--proc-sys=" + o.procSys, "--core-socket=" + o.socket, m.config.dir}, args...))
	must(t, cmd.Execute())
	return out.String()
}

func TestUninstallLeavesNothing(t *testing.T) {
	m := newMachine(t, "/cores/%e")
	must(t, os.RemoveAll(m.config.dir))
	before := tree(t, m.dir)
	must(t, os.Mkdir(m.config.dir, 0o755))
	s, err := spool.Open(filepath.Join(m.config.dir, ".spool"))
	must(t, err)
	defer s.Close()
	must(t, os.WriteFile(m.file(judgeFile), []byte("{}"), 0o600))
	must(t, os.MkdirAll(filepath.Join(m.config.dir, ".aside"), 0o700))
	must(t, os.MkdirAll(filepath.Dir(m.config.kernel.socket), 0o700))
	must(t, os.WriteFile(m.config.kernel.socket, nil, 0o600))
	m.start(t)
	m.eventually(t, "they are ours", func() bool { return m.ours(t) })
	m.stop(t)
	for range 2 {
		out := m.uninstall(t)
		if strings.Contains(out, "stays") || strings.Contains(out, "stay in") {
			t.Error(out)
		}
		if after := tree(t, m.dir); !slices.Equal(after, before) || m.get(t, "core_pattern") != "/cores/%e" || m.get(t, "core_pipe_limit") != "0" {
			t.Errorf("%q, was %q, core_pattern %q", after, before, m.get(t, "core_pattern"))
		}
	}
}

func TestUninstallKeepsDumpsAndSaysSo(t *testing.T) {
	m := newMachine(t, "core")
	meta := &spool.Meta{Mode: "pipe", HostPID: 7, CrashTime: 1e18}
	w, err := m.spool.Create(spool.NewName(meta))
	must(t, err)
	must(t, w.WriteMeta(meta))
	must(t, w.Finish(spool.Outcome{Suppressed: spool.ReasonEmpty}))
	must(t, os.MkdirAll(filepath.Join(m.config.dir, "shop\x1b[2J"), 0o700))
	out := m.uninstall(t)
	if !strings.Contains(out, "1 dumps stay in") || !strings.Contains(out, `".spool", "shop\x1b[2J"`) {
		t.Errorf("it says %q", out)
	}
	if names, err := m.spool.Ready(); err != nil || len(names) != 1 {
		t.Errorf("%v %v", names, err)
	}
	out = m.uninstall(t, "--purge")
	if _, err := os.Stat(filepath.Join(m.config.dir, ".spool")); err == nil || strings.Contains(out, "dumps stay in") || !strings.Contains(out, m.config.dir+" stays, with \"shop") {
		t.Errorf("after --purge: %q", out)
	}
}

func TestUninstallWantsADirectoryOrToWait(t *testing.T) {
	for _, args := range [][]string{{"uninstall"}, {"uninstall", "a", "b"}, {"uninstall", "--wait", "a"}} {
		cmd := NewCommand(t.Context())
		cmd.SetArgs(args)
		cmd.SetOut(&bytes.Buffer{})
		cmd.SetErr(&bytes.Buffer{})
		if err := cmd.Execute(); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := NewCommand(ctx)
	cmd.SetArgs([]string{"uninstall", "--wait"})
	done := make(chan error, 1)
	go func() { done <- cmd.Execute() }()
	cancel()
	must(t, <-done)
}
