// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/corefile"
	"example.io/coredump/pkg/crash"
	"example.io/coredump/pkg/storage"
)

var errStalled = fmt.Errorf("no progress for %v", stalled)

// errIdentity marks a failure to learn who crashed.
var errIdentity = errors.New("identity")

// attempt is one attempt at uploading a dump.
type attempt struct {
	pool   *Pool
	item   *item
	cancel context.CancelCauseFunc
	moved  atomic.Int64 // Unix nanoseconds of the last progress
}

func (a *attempt) move() { a.moved.Store(time.Now().UnixNano()) }

// still is how long the attempt has made no progress.
func (a *attempt) still(now time.Time) time.Duration { return now.Sub(time.Unix(0, a.moved.Load())) }

// run makes the attempt. A nil error means that the dump has left the node, for the store or aside.
func (a *attempt) run(ctx context.Context) error {
	ctx, a.cancel = context.WithCancelCause(ctx)
	defer a.cancel(nil)
	a.move()
	a.pool.mu.Lock()
	a.pool.running[a] = struct{}{}
	a.pool.mu.Unlock()
	defer func() {
		a.pool.mu.Lock()
		delete(a.pool.running, a)
		a.pool.mu.Unlock()
	}()

	o, err := a.item.dump.Open()
	if err != nil {
		return err
	}
	defer o.File.Close()
	identify := a.pool.who.Identify
	if o.Identify != nil {
		identify = o.Identify
	}
	if err := identify(ctx, o.Record); err != nil {
		return fmt.Errorf("%w: %w", errIdentity, err)
	}
	a.move()
	err = a.store(ctx, o)
	var bad *badFile
	switch {
	case errors.As(err, &bad):
		return a.setAside(ctx, o, bad)
	case err != nil && context.Cause(ctx) == errStalled:
		return errStalled
	}
	return err
}

// store commits the dump and removes it from the node.
func (a *attempt) store(ctx context.Context, o *Opened) error {
	start := time.Now()
	key := storage.Key{Namespace: o.Record.Namespace, Pod: o.Record.Spec.PodName, Container: o.Record.Spec.ContainerName, ID: o.ID}
	beside := a.gather(ctx, o)
	stored := a.pool.newBody(o, a.move)
	err := a.pool.dumps.Commit(ctx, key, stored.storage(beside), func(obj storage.Object) (*v1alpha1.CoreDump, error) {
		return complete(o, stored, obj)
	})
	if cause := stored.close(); cause != nil && err != nil {
		err = cause // the reader's own error, whatever the store made of it
	}
	result := resultUploaded
	switch {
	case errors.Is(err, storage.ErrExists):
		result = resultExisted // stored before, but not removed: the node handler was killed in between
	case err != nil:
		return err
	}
	// From here on the dump is safe.
	if err := o.File.Remove(); errors.Is(err, ErrChanged) {
		a.item.dump.Recheck() // somebody wrote to it since: that is another dump
	} else if err != nil {
		return err
	}
	dumpsTotal.WithLabelValues(result).Inc()
	log := klog.FromContext(ctx).WithValues("namespace", key.Namespace, "pod", key.Pod, "container", key.Container, "file", a.item.dump.Path(), "key", key.Record())
	if result == resultExisted {
		log.Info("[coredump] Was in the store already")
		return nil
	}
	if a.pool.opts.Uploaded != nil {
		a.pool.opts.Uploaded(ctx, key, o.Record)
	}
	took := time.Since(start)
	st := o.Record.Status
	bytesTotal.WithLabelValues(bytesCore).Add(float64(st.Size))
	bytesTotal.WithLabelValues(bytesStored).Add(float64(st.StoredSize + int64(len(beside))))
	uploadSeconds.Observe(took.Seconds())
	log.Info("[coredump] Uploaded", "exe", o.Record.Spec.Process.Executable, "signal", o.Record.Spec.Process.SignalName,
		"size", st.Size, "storedSize", st.StoredSize, "contextSize", len(beside), "truncated", st.Truncated, "seconds", took.Round(time.Millisecond).Seconds())
	return nil
}

// complete fills in what is known once the body is stored.
func complete(o *Opened, b *body, obj storage.Object) (*v1alpha1.CoreDump, error) {
	if obj.Size != b.read {
		return nil, &storage.Error{Op: "confirm", Key: obj.Key, Kind: storage.ErrCorrupt, Err: fmt.Errorf("the store has %d bytes, %d were sent", obj.Size, b.read)}
	}
	now := metav1.Now()
	st := &o.Record.Status
	st.Size, st.StoredSize = b.core.size, obj.Size
	st.Codec, st.Checksum, st.SHA256 = string(b.codec), obj.Checksum, b.core.sha256()
	st.UploadTime = &now
	describe(o.Record, b.core.facts.Facts())
	if st.Size < st.PromisedSize {
		st.Truncated = true
		st.TruncatedReason = cmp.Or(st.TruncatedReason, "The file is shorter than its own ELF header promises.")
	}
	return o.Record, nil
}

// describe fills in what the core itself says. Where the source of the dump knew something, that stays.
func describe(d *v1alpha1.CoreDump, f corefile.Facts) {
	st, p := &d.Status, &d.Spec.Process
	st.Summary = crash.Summary(f)
	st.PromisedSize = min(cmp.Or(st.PromisedSize, f.PromisedSize), storage.MaxSize) // a forged header may promise anything
	p.Executable = cmp.Or(p.Executable, f.Executable)
	p.Comm = cmp.Or(p.Comm, f.Comm)
	p.PID = cmp.Or(p.PID, f.PID)
	if p.Signal == 0 && f.Signal > 0 {
		p.Signal, p.SignalName = f.Signal, corefile.SignalName(int(f.Signal))
	}
}

func (a *attempt) setAside(ctx context.Context, o *Opened, bad *badFile) error {
	if err := o.File.SetAside(bad.reason, bad.Error()); err != nil {
		return err
	}
	dumpsTotal.WithLabelValues(resultSetAside).Inc()
	klog.FromContext(ctx).Info("Set a file aside", "file", a.item.dump.Path(), "reason", bad.reason, "why", bad.err)
	return nil
}

func failureOf(err error) string {
	for _, f := range []struct {
		kind   error
		reason string
	}{
		{errIdentity, failureIdentity},
		{errStalled, failureStalled},
		{storage.ErrDenied, failureDenied},
		{storage.ErrCorrupt, failureCorrupt},
		{storage.ErrUnavailable, failureUnavailable},
	} {
		if errors.Is(err, f.kind) {
			return f.reason
		}
	}
	return failureOther
}
