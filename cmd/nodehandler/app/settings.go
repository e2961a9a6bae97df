// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/component-base/metrics"
	"k8s.io/klog/v2"

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
	return k.keepSettings(ctx, h, func() (string, error) { return k.install(h) })
}

// install puts corepipe on the host, and gives the core_pattern for it.
func (k *kernel) install(h *host.Host) (string, error) {
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
	return h.Install(k.config.kernel.corepipe, data)
}

// keepSettings brings the settings into force and puts them right again where somebody changed them, until ctx ends. It fails where that
// does not work the first time.
func (k *kernel) keepSettings(ctx context.Context, h *host.Host, pattern func() (string, error)) error {
	tick := time.NewTicker(k.config.kernel.heal)
	defer tick.Stop()
	for once := false; ; once = true {
		// The version before is kept for a moment: the kernel may be about to run it.
		switch err := k.apply(ctx, h, pattern, once); {
		case err == nil:
			capturing.Set(1)
		case errors.Is(err, host.ErrForbidden):
			capturing.Set(0)
			k.teller.SettingsRefused(ctx, err.Error()+"; --force-core-pattern replaces it")
		case !once:
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

func (k *kernel) apply(ctx context.Context, h *host.Host, pattern func() (string, error), prune bool) error {
	text, err := pattern()
	if err != nil {
		return err
	}
	o := &k.config.kernel
	want := host.Values{host.CorePattern: text, host.CorePipeLimit: strconv.Itoa(o.pipeLimit)}
	if o.suidDumpable != "keep" {
		want[host.SuidDumpable] = o.suidDumpable
	}
	report, err := h.Apply(want, o.force)
	if err != nil {
		return err
	}
	for _, d := range report.Drift {
		k.teller.SettingsHealed(ctx, path.Base(string(d.Knob)), d.String())
	}
	if len(report.Written) > 0 {
		klog.FromContext(ctx).Info("[coredump] The host's settings are ours", "written", report.Written, "original", report.Original.Values)
	}
	if !prune {
		return nil
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
