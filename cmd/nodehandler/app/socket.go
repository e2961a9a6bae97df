// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"example.io/coredump/pkg/capture/host"
	"example.io/coredump/pkg/capture/socket"
	"example.io/coredump/pkg/capture/socketspool"
	"example.io/coredump/pkg/tell"
)

// handshake is how long the kernel may take for a step of the protocol.
const handshake = 10 * time.Second

// listen takes dumps in mode socket: the listener is there before the kernel is told of it.
func (k *kernel) listen(ctx context.Context) error {
	o := &k.config.kernel
	h := o.host()
	takes, err := h.TakesSockets()
	if err != nil {
		return err
	}
	if !takes {
		return errors.New("--capture=socket: this kernel does not deliver dumps to a socket (Linux 6.17 does): use --capture=pipe")
	}
	pattern, err := host.SocketPattern(o.socket)
	if err != nil {
		return fmt.Errorf("--core-socket: %w", err)
	}
	l, err := socket.Listen(o.socket)
	if err != nil {
		return err
	}
	original, err := h.Original()
	if err != nil {
		return err
	}
	config := k.capture
	config.Forward = original.Values[host.CorePattern]
	t := &socketspool.Taker{
		Spool: k.spool, Config: &config, Handler: k.witness, Namespaces: h.Namespaces, HostRoot: "/proc/1/root",
		Forwarded: func() { k.teller.Forwarded(ctx, captureSocket, tell.ForwardedHost) },
		Failed:    func(err error) { k.teller.Failed(ctx, captureSocket, err) },
	}
	server := &socket.Server{
		Handle: func(ctx context.Context, crash *socket.Crash) {
			ctx, cancel := lasting(ctx, k.config.grace)
			defer cancel()
			t.Handle(ctx, crash)
		},
		Concurrent: o.maxCaptures, Waiting: 4 * o.maxCaptures, WaitTimeout: o.answer, Handshake: handshake,
		Refused: func(why socket.Refusal, err error) {
			socketRefused.WithLabelValues(string(why)).Inc()
			klog.FromContext(ctx).V(2).Info("A connection to the socket for dumps was refused", "why", why, "err", err)
		},
	}
	loops, ctx := errgroup.WithContext(ctx)
	loops.Go(func() error { return server.Serve(ctx, l) })
	loops.Go(func() error { return k.keepSettings(ctx, h, func() (string, error) { return pattern, nil }) })
	return loops.Wait()
}

// lasting gives a context that ends the grace period after ctx: what is being taken when the program is told to stop would be half a dump for
// ever, for there is nobody else to take the rest.
func lasting(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(grace, cancel)
		context.AfterFunc(longer, func() { timer.Stop() })
	})
	return longer, func() { stop(); cancel() }
}
