// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.io/coredump/test/required"
)

// Programs that crash: in a library, for the debuggers of C, and one for delve.
var crashing = map[string]string{
	"total.c":     "__attribute__((noinline)) void checkout_total(int *p) { *p = 42; }",
	"server.c":    "void checkout_total(int *p); int main(void) { checkout_total(0); return 0; }",
	"goserver.go": "package main\n//go:noinline\nfunc checkoutTotal(p *int) { *p = 42 }\nfunc main() { checkoutTotal(nil) }",
}

// makeIn runs a program in a directory, and fails the test where that fails.
func makeIn(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

// coreOf has gdb run a program until it crashes, and save its core: the kernel's setting is one for the whole machine.
func coreOf(t *testing.T, program, core string) {
	t.Helper()
	out, err := exec.Command("gdb", "-batch", "-nx", "-iex", "set debuginfod enabled off", "-ex", "run", "-ex", "generate-core-file "+core, "-ex", "kill", program).CombinedOutput()
	if _, e := os.Stat(core); e != nil {
		required.Missing(t, fmt.Sprintf("gdb cannot run a program here: %v\n%s", err, out))
	}
}

// The debuggers themselves understand their command lines, take commands behind -- or from a pipe, read no startup file, and find the function that crashed: here, and as
// in a pod, where executable and library are only below a root.
func TestRealDebuggersOpenARealCore(t *testing.T) {
	for _, program := range []string{"gcc", "gdb"} {
		if _, err := exec.LookPath(program); err != nil {
			required.Missing(t, err.Error())
		}
	}
	dir := t.TempDir()
	image, cores, home, root := filepath.Join(dir, "image"), filepath.Join(dir, "cores"), filepath.Join(dir, "home"), filepath.Join(dir, "root")
	for _, d := range []string{filepath.Join(image, "lib"), cores, home, root + dir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range crashing {
		if err := os.WriteFile(filepath.Join(image, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lib := filepath.Join(image, "lib") // not beside the executable, where lldb looks anyway
	makeIn(t, image, "gcc", "-g", "-fPIC", "-shared", "-o", "lib/libtotal.so", "total.c")
	makeIn(t, image, "gcc", "-g", "-o", "server", "server.c", "-L"+lib, "-ltotal", "-Wl,-rpath,"+lib)
	coreOf(t, filepath.Join(image, "server"), filepath.Join(cores, "server"))
	if _, err := exec.LookPath("dlv"); err == nil {
		makeIn(t, image, "go", "build", "goserver.go")
		coreOf(t, filepath.Join(image, "goserver"), filepath.Join(cores, "goserver"))
	}
	const startup = "a startup file was read"
	for name, text := range map[string]string{".gdbinit": "echo " + startup, ".lldbinit": "platform shell echo " + startup} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", home)
	t.Chdir(home)

	debuggers := []struct {
		name, program, crashed string
		extra                  []string
		piped                  string
		function               string // with argument and line, which take the debug information in its file
	}{
		{name: "gdb", program: "gdb", crashed: "server", extra: []string{"-batch", "-ex", "bt"}, function: "checkout_total (p=0x0) at total.c:1"},
		{name: "lldb", program: "lldb", crashed: "server", extra: []string{"--batch", "-o", "bt"}, function: "checkout_total(p=0x0000000000000000) at total.c:1"},
		{name: "delve", program: "dlv", crashed: "goserver", piped: "bt\n", function: "main.checkoutTotal"},
	}
	open := func(t *testing.T, piped, function string, args ...string) {
		t.Helper()
		var out bytes.Buffer
		err := execute(t.Context(), Program{Args: args, In: strings.NewReader(piped), Out: &out, Err: &out})
		if err != nil || !strings.Contains(out.String(), function) || strings.Contains(out.String(), startup) {
			t.Errorf("%q: %v\n%s", args, err, out.String())
		}
	}
	script := strings.Replace(findRoot, "root=/target", "root="+root, 1)
	for _, place := range []string{"here", "pod"} {
		if place == "pod" {
			if err := os.Rename(image, root+image); err != nil {
				t.Fatal(err)
			}
		}
		for _, d := range debuggers {
			t.Run(d.name+" "+place, func(t *testing.T) {
				if _, err := exec.LookPath(d.program); err != nil {
					t.Skipf("NOT TESTED: %v", err)
				}
				executable, core := filepath.Join(image, d.crashed), filepath.Join(cores, d.crashed)
				if place == "here" {
					open(t, d.piped, d.function, commandLine(d.name, "", executable, core, d.extra)...)
					return
				}
				open(t, d.piped, d.function, append([]string{"sh", "-c", script, "sh"}, commandLine(d.name, "@ROOT@", "@ROOT@"+executable, core, d.extra)...)...)
			})
		}
	}
}
