// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// stopPatience is how long a process may take to end after SIGTERM before it is killed.
const stopPatience = 20 * time.Second

// Process is a child process whose output goes to a file. It is killed when this program dies, however that happens.
type Process struct {
	Name string
	// Log is the file that its output is appended to.
	Log string

	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// StartProcess runs the command. The environment is env and PATH, nothing else.
func StartProcess(dir, name string, env []string, path string, args ...string) (*Process, error) {
	p := &Process{Name: name, Log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(path, args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error)
	go func() {
		// Pdeathsig is sent when the *thread* that forked ends (prctl(2)), so this goroutine keeps its thread until the child is gone.
		runtime.LockOSThread()
		started <- p.cmd.Start()
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// PID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the process.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the process with SIGKILL and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop ends the process with SIGTERM, after a while with SIGKILL, and waits for its end. It says how it ended.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopPatience):
		p.Kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.Name, stopPatience)
	}
	return p.err
}

// WaitFor asks ready again and again until it gives nil, the process ends, or ctx does.
func (p *Process) WaitFor(ctx context.Context, ready func(context.Context) error) error {
	err := Poll(ctx, func(ctx context.Context) error {
		select {
		case <-p.done:
			return errEnded
		default:
			return ready(ctx)
		}
	})
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", p.Name, err, p.Tail())
	}
	return nil
}

var errEnded = errors.New("the process has ended")

// Tail is the end of the log.
func (p *Process) Tail() string {
	data, _ := os.ReadFile(p.Log)
	return string(data[max(0, len(data)-4000):])
}

// pollInterval is how often Poll asks.
const pollInterval = 100 * time.Millisecond

// Poll asks check until it gives nil or ctx ends; then it says what the last answer was.
func Poll(ctx context.Context, check func(context.Context) error) error {
	for {
		err := check(ctx)
		if err == nil || errors.Is(err, errEnded) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		case <-time.After(pollInterval):
		}
	}
}
