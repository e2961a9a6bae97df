// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/component-base/metrics"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/capture"
	"example.io/coredump/pkg/capture/host"
	"example.io/coredump/pkg/capture/initns"
)

var capturing = metrics.NewGauge(&metrics.GaugeOpts{
	Subsystem: "coredump_nodehandler", Name: "capturing", StabilityLevel: metrics.ALPHA,
	Help: "1 if the kernel delivers the dumps of this node to us, 0 if not.",
})

var socketRefused = metrics.NewCounterVec(&metrics.CounterOpts{
	Subsystem: "coredump_nodehandler", Name: "socket_refused_total", StabilityLevel: metrics.ALPHA,
	Help: "Connections to the socket for dumps that were refused, by reason: forged, protocol, busy, limit, shutdown, undecided.",
}, []string{"reason"})

// host is where the host's settings are.
func (o *kernelOptions) host() *host.Host {
	return &host.Host{Dir: o.hostDir, HostDir: o.hostDir, Socket: o.socket, ProcSys: o.procSys, Namespaces: initns.Dir()}
}

// settings keeps the host's settings as mode pipe needs them.
func (k *kernel) settings(ctx context.Context) error {
	h := k.config.kernel.host()
	var last installed
	return k.keepSettings(ctx, h, func() (string, error) { return k.install(h, &last) })
}

// installed is what was put on the host last.
type installed struct {
	pattern string
	config  []byte
	at      time.Time
}

// wholeCheck is how often it is made sure, byte by byte, that corepipe on the host is what it should be. That it is there is looked at each time.
const wholeCheck = 10 * time.Minute

// install puts corepipe on the host where it is not there already, and gives the core_pattern for it.
func (k *kernel) install(h *host.Host, last *installed) (string, error) {
	original, err := h.Original()
	if err != nil {
		return "", err
	}
	c := k.capture
	c.Forward = original.Values[host.CorePattern]
	data, err := c.Encode()
	if err != nil {
		return "", err
	}
	if there, err := os.ReadFile(filepath.Join(h.Dir, capture.ConfigFile)); err == nil && bytes.Equal(there, data) && bytes.Equal(last.config, data) &&
		time.Since(last.at) < wholeCheck && h.Installed(last.pattern) {
		return last.pattern, nil
	}
	pattern, err := h.Install(k.config.kernel.corepipe, data)
	if err == nil {
		*last = installed{pattern, data, time.Now()}
	}
	return pattern, err
}

// keepSettings brings the settings into force and puts them right again where somebody changed them, until ctx ends. It fails where that does not work the
// first time, unless the host has settings that are respected.
func (k *kernel) keepSettings(ctx context.Context, h *host.Host, pattern func() (string, error)) error {
	tick := time.NewTicker(k.config.kernel.heal)
	defer tick.Stop()
	for inForce, first := false, true; ; first = false {
		switch err := k.apply(ctx, h, pattern, inForce); {
		case err == nil:
			inForce = true
			capturing.Set(1)
		case errors.Is(err, host.ErrForbidden), errors.Is(err, host.ErrSibling):
			capturing.Set(0)
			k.teller.SettingsRefused(ctx, err.Error()+"; --force-core-pattern replaces it")
		case first:
			return err
		default:
			capturing.Set(0)
			klog.FromContext(ctx).Error(err, "The host's settings cannot be kept")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return k.restore(ctx, h)
		}
	}
}

// apply brings the settings into force. inForce says whether they have been since the start: only then a change is somebody else's doing that people should be told
// of, and the kernel has had the time to start the last program of an earlier version, so that those can go.
func (k *kernel) apply(ctx context.Context, h *host.Host, pattern func() (string, error), inForce bool) error {
	text, err := pattern()
	if err != nil {
		return err
	}
	o := &k.config.kernel
	want := host.Values{host.CorePattern: text, host.CorePipeLimit: strconv.Itoa(o.pipeLimit)}
	if o.suidDumpable != "keep" {
		if _, err := os.Stat(filepath.Join(h.ProcSys, string(host.SuidDumpable))); err != nil {
			return fmt.Errorf("--suid-dumpable=%s: the host's setting is not there, see --proc-sys: %w", o.suidDumpable, err)
		}
		want[host.SuidDumpable] = o.suidDumpable
	}
	report, err := h.Apply(want, o.force)
	if err != nil {
		return err
	}
	if len(report.Written) > 0 {
		klog.FromContext(ctx).Info("[coredump] The host's settings are ours", "written", report.Written, "found", report.Drift, "original", report.Original.Values)
	}
	if !inForce {
		return nil
	}
	for _, d := range report.Drift {
		k.teller.SettingsHealed(ctx, path.Base(string(d.Knob)), d.String())
	}
	return h.Prune(text)
}

// restore gives the host its own settings back, if that is wanted.
func (k *kernel) restore(ctx context.Context, h *host.Host) error {
	if !k.config.kernel.restoreOnExit {
		return nil
	}
	report, err := h.Restore()
	if err == nil {
		klog.FromContext(ctx).Info("[coredump] The host's settings are its own again", "written", report.Written)
	}
	return err
}

// percent gives a part of the file system that the directory is on, in bytes.
func percent(dir string, n int) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look at the file system of %q: %w", dir, err)
	}
	return int64(st.Blocks) * st.Bsize / 100 * int64(n), nil
}
